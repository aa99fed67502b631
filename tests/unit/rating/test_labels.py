"""Labels: imported, superseded, oriented; and what raters do beside the items."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lima.common.clock import now
from lima.errors import DataError
from lima.evaluation.agreement.rater_habits import raters_of
from lima.evaluation.statistics.intervals import clopper_pearson, rows_for_width
from lima.rating.importing import import_labels
from lima.rating.labels import Label, one_each, read_labels, standing
from lima.store.scan import Tables
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS

IDENTITY = {"run_id": "r" * 16, "spec_hash": "h", "experiment": "e", "arm": "lima", "seed": 0}
RECORD = {
    "kind": "preference",
    "rater": "ann",
    "rater_group": "crowd",
    "prompt": "Why?",
    "arm_1": "lima",
    "arm_2": "alpaca",
    "label": "A",
}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "storage"))


def event(number: int, label: str | None = "A", **changes: Any) -> dict[str, Any]:
    return {
        "annotation_id": str(number),
        "event": "labelled",
        "item_id": "i",
        "presentation": 0,
        "kind": "preference",
        "rater": "ann",
        "rater_group": "crowd",
        "label": label,
        "shown": "12",
        "prompt_key": "p",
        "response_1": "x",
        "response_2": "y",
        "arm_1": "alpaca",
        "arm_2": "lima",
        "supersedes": None,
        "written_at": now(),
        **changes,
    }


def read(storage: Storage, *rows: dict[str, Any]) -> list[Label]:
    RunTable.of(storage, ANNOTATIONS, IDENTITY).write("labels", rows)
    return read_labels(Tables(storage))


def write_lines(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(r) for r in records), "utf-8")
    return path


def test_the_last_event_decides(storage: Storage) -> None:
    rows = [
        event(1, "A"),
        event(2, "B", supersedes="1"),
        event(3, "A", item_id="j"),
        event(4, None, item_id="j", event="undone", supersedes="3"),
        event(5, None, item_id="k", event="skipped"),
    ]
    found = {x.item_id: x for x in read(storage, *rows)}
    assert found.keys() == {"i", "k"}
    assert found["i"].value == "2"
    assert (found["k"].value, found["k"].status) == (None, "skipped")


def test_an_event_that_was_superseded_twice_stays_gone() -> None:
    rows = [event(1), event(2, supersedes="1"), event(3, supersedes="2")]
    assert [row["annotation_id"] for row in standing(rows)] == ["3"]


@pytest.mark.parametrize(
    ("label", "shown", "side", "result"),
    [
        ("A", "12", "A", "lose"),
        ("B", "12", "B", "win"),
        ("A", "21", "A", "win"),
        ("B", "21", "B", "lose"),
        ("neither", "21", "tie", "tie"),
        ("A", "unknown", "unknown", "lose"),
    ],
)
def test_a_label_says_the_same_whoever_comes_first(
    storage: Storage, label: str, shown: str, side: str, result: str
) -> None:
    turned = {"12": "21", "21": "12"}.get(shown, shown)
    other = {"A": "B", "B": "A"}.get(label, label) if shown == "unknown" else label
    straight, swapped = read(
        storage,
        event(1, label, shown=shown),
        event(
            2,
            other,
            shown=turned,
            rater="bob",
            arm_1="lima",
            arm_2="alpaca",
            response_1="y",
            response_2="x",
        ),
    )
    assert (straight.value, straight.arm_1) == (swapped.value, swapped.arm_1)
    assert straight.side == swapped.side == side
    assert straight.for_arm("lima") == result


def test_a_second_showing_does_not_count_twice(storage: Storage) -> None:
    found = read(
        storage,
        event(1, None, event="skipped"),
        event(2, "B", presentation=1),
        event(3, "A", presentation=2),
    )
    assert [x.value for x in one_each(found)] == ["2"]


def test_habits_of_a_rater(storage: Storage) -> None:
    rows = [event(i, "A", item_id=str(i)) for i in range(6)]
    rows += [event(10, "A", item_id="0", presentation=1, shown="21")]  # stays on its side
    rows += [event(11, "B", item_id="1", presentation=1, shown="21")]  # stays with its response
    rows += [
        event(12, "A", item_id="2", presentation=1),
        event(13, "B", item_id="3", presentation=1),
    ]
    rows += [event(14, "neither", item_id="9"), event(15, None, item_id="8", event="skipped")]
    [rater] = raters_of(read(storage, *rows))
    assert (rater.items, rater.labelled) == (8, 7)
    assert (rater.ties.count, rater.ties.total) == (2, 7)  # item 0: torn between both orders
    assert (rater.position.count, rater.position.total) == (8, 10)
    assert (rater.turned.count, rater.turned.total) == (1, 2)
    assert (rater.repeated.count, rater.repeated.total) == (1, 2)
    # Of 10 showings of 6 items, worth 100 / 18 independent ones.
    assert rater.position.low == pytest.approx(0.30980, abs=1e-5)


def test_plain_records_become_labels(storage: Storage, tmp_path: Path) -> None:
    absolute = {
        **RECORD,
        "kind": "absolute",
        "arm_2": None,
        "label": "pass",
        "out_of_distribution": True,
    }
    path = write_lines(tmp_path / "labels.jsonl", RECORD, {**RECORD, "label": None}, absolute)
    assert import_labels(path, storage, "study", "plain").new
    again = import_labels(path, storage, "study", "plain")
    assert (again.rows, again.new) == (3, False)
    found = read_labels(Tables(storage, "study"))
    assert sorted((x.kind, x.presentation, x.status) for x in found) == [
        ("absolute", 0, "ok"),
        ("preference", 0, "ok"),
        ("preference", 1, "skipped"),
    ]
    first = next(x for x in found if x.kind == "preference" and x.value)
    assert (first.for_arm("lima"), first.side) == ("win", "unknown")
    assert next(x for x in found if x.kind == "absolute").out_of_distribution


def test_votes_of_mtbench(storage: Storage, tmp_path: Path) -> None:
    vote = {"judge": "expert_1", "model_a": "m", "model_b": "a", "question_id": 81, "turn": 1}
    lines = [{**vote, "winner": "model_a"}, {**vote, "judge": "gpt4_pair", "winner": "tie"}]
    path = tmp_path / "votes.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    import_labels(path, storage, "study", "mtbench")
    human, model = sorted(read_labels(Tables(storage)), key=lambda x: x.group)
    assert (human.group, human.for_arm("m"), human.arm_1) == ("crowd", "win", "a")
    assert (model.group, model.value) == ("model", "tie")
    assert human.item_id == model.item_id


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "C"}, "label 'C'"),
        ({"arm_2": None}, "needs arm_2"),
        ({"colour": 1}, "colour"),
        ({"rater_group": "all"}, "all"),
        ({"arm_2": RECORD["arm_1"]}, "the same"),
        ({"response_1": "r", "response_2": "r"}, "the same"),
        ({"turn": 0}, "turn"),
        ({"turn": -1}, "turn"),
        ({"turn": 2**70}, "turn"),
        ({"rater": ""}, "rater"),
        ({"prompt": ""}, "prompt"),
        ({"arm_1": ""}, "arm_1"),
    ],
)
def test_a_line_that_is_no_label_is_named(
    storage: Storage, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = write_lines(tmp_path / "labels.jsonl", RECORD, {**RECORD, **change})
    with pytest.raises(DataError, match=r"labels\.jsonl:2: .*" + said):
        import_labels(path, storage, "study", "plain")
    assert read_labels(Tables(storage)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [({"model_b": "m"}, "model_b are the same"), ({"turn": 0}, "turn"), ({"turn": -1}, "turn")],
)
def test_a_vote_that_is_none_is_named(
    storage: Storage, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    vote = {
        "judge": "expert_1",
        "model_a": "m",
        "model_b": "a",
        "question_id": 81,
        "turn": 1,
        "winner": "tie",
    }
    path = write_lines(tmp_path / "votes.jsonl", vote, {**vote, **change})
    with pytest.raises(DataError, match=r"votes\.jsonl:2: .*" + said):
        import_labels(path, storage, "study", "mtbench")


def test_two_responses_of_one_arm_may_be_compared(storage: Storage, tmp_path: Path) -> None:
    pair = {**RECORD, "arm_2": RECORD["arm_1"], "response_1": "r", "response_2": "s"}
    import_labels(write_lines(tmp_path / "labels.jsonl", pair), storage, "study", "plain")
    [label] = read_labels(Tables(storage))
    assert label.arm_1 == label.arm_2


def test_a_byte_order_mark_is_no_part_of_the_labels(storage: Storage, tmp_path: Path) -> None:
    plain = write_lines(tmp_path / "plain.jsonl", RECORD)
    marked = tmp_path / "marked.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(marked.read_bytes()))
    assert [import_labels(p, storage, "study", "plain").new for p in (marked, packed, plain)] == [
        True,
        False,
        False,
    ]


def test_a_damaged_archive_is_named(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00" + b"x" * 30)
    with pytest.raises(DataError, match=r"labels\.jsonl\.gz: cannot be read"):
        import_labels(path, storage, "study", "plain")


def test_exact_intervals_of_published_tables() -> None:
    """Clopper and Pearson's interval of 1 in 10 and of 0 in 10, as tables of it give them."""
    assert clopper_pearson(1, 10) == pytest.approx((0.0025, 0.4450), abs=1e-4)
    assert clopper_pearson(0, 10) == pytest.approx((0, 0.3085), abs=1e-4)
    assert clopper_pearson(10, 10) == pytest.approx((0.6915, 1), abs=1e-4)


@pytest.mark.parametrize(("share", "width"), [(0.5, 0.2), (0.03, 0.05), (1.0, 0.1)])
def test_rows_for_a_width_are_the_fewest(share: float, width: float) -> None:
    rows = rows_for_width(share, width)

    def reach(n: int) -> float:
        low, high = clopper_pearson(round(share * n), n)
        return high - low

    assert reach(rows) <= width < reach(rows - 2)
