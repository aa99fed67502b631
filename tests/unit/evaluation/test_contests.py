"""Every pair of arms that was compared: in the aggregate, in the report, at equal length."""

import csv
import html
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.evaluation.aggregate.table import aggregate_rows
from lima.evaluation.labels.contests import CONTEST, contest_rows, length_controlled
from lima.evaluation.labels.label_shares import Labelled
from lima.evaluation.report.page import render_report
from lima.evaluation.statistics.intervals import clopper_pearson
from lima.rating.labels import read_labels
from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec
from lima.spec.codec import sha256_key
from lima.store.scan import Tables
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS, GENERATIONS, JUDGMENTS
from lima_k8s.main import run
from tests.helpers.paper_shares import IDENTITY, event
from tests.helpers.report_pages import figure
from tests.helpers.synthetic import START, write_run, write_shard

PROMPTS = 20
WORDS = {"mine-a": 30, "mine-b": 60, "gpt": 40, "claude": 20}
"""Words of each response of an arm."""


def cell_of(arm: str, judge: str = "judge", baselines: tuple[str, ...] = ()) -> CellSpec:
    spec = JudgeSpec(model=judge, rubric="preference", baselines=baselines)
    return CellSpec(
        "study",
        arm,
        generate=GenerateSpec(DataSpec("test.jsonl")),
        judge=spec if baselines else None,
    )


def write_responses(storage: Storage, arm: str, *, even: bool = False) -> None:
    """Write the responses of an arm, longer from prompt to prompt; `even`: all as long."""
    cell = cell_of(arm)
    write_run(storage, cell, "generate")
    columns = {
        "generation_key": [sha256_key([arm, p]) for p in range(PROMPTS)],
        "prompt_key": [f"p{p}" for p in range(PROMPTS)],
        "prompt_index": range(PROMPTS),
        "sample": 0,
        "source": "s",
        "prompt": [["Why?"]] * PROMPTS,
        "response": ["word " * (WORDS[arm] + (0 if even else p)) for p in range(PROMPTS)],
        "token_ids": [[]] * PROMPTS,
        "finish_reason": "eot",
        "seed_address": "",
        "model": arm,
        "at": START,
    }
    columns["prompt_index"] = list(range(PROMPTS))
    write_shard(storage, GENERATIONS, cell, "r", columns)


def write_verdicts(
    storage: Storage, arm: str, other: str, labels: Sequence[str], judge: str = "judge"
) -> None:
    """Write the labels of a judge about an arm and a baseline, prompt by prompt."""
    cell = cell_of(arm, judge, (other,))
    write_run(storage, cell, "judge")
    keys = [sha256_key([arm, p]) for p in range(len(labels))]
    columns = {
        "judgment_key": [sha256_key([arm, other, judge, p]) for p in range(len(labels))],
        "generation_key": keys,
        "prompt_key": [f"p{p}" for p in range(len(labels))],
        "sample": 0,
        "attempt": 1,
        "final": True,
        "status": "ok",
        "label": list(labels),
        "item_id": [f"{arm}-{other}-{p}" for p in range(len(labels))],
        "presentation": 0,
        "response_2": [sha256_key([other, p]) for p in range(len(labels))],
        "arm_2": other,
        "shown": "12",
        "judge": judge,
        "rubric": "preference",
        "rubric_hash": "h",
        "cost": 0.0,
        "seconds": 1.0,
        "at": START,
    }
    write_shard(storage, JUDGMENTS, cell, "v", columns)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """Two arms, each judged against two baselines."""
    storage = Storage(str(tmp_path_factory.mktemp("contests")))
    for arm in WORDS:
        write_responses(storage, arm)
    wins = {
        ("mine-a", "gpt"): 5,
        ("mine-a", "claude"): 15,
        ("mine-b", "gpt"): 10,
        ("mine-b", "claude"): 18,
    }
    for (arm, other), won in wins.items():
        labels = ["A"] * won + ["neither"] * 2 + ["B"] * (PROMPTS - won - 2)
        write_verdicts(storage, arm, other, labels)
    return storage


def pairs_of(storage: Storage, **options: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
    rows = aggregate_rows(storage, ["arm", "against"], note=pytest.fail, **options)
    return {(row["arm"], row["against"], row["raters"]): row for row in rows}


def test_every_judged_pair_has_a_row(study: Storage) -> None:
    found = pairs_of(study)
    assert sorted(found) == [
        ("mine-a", "claude", "judge"),
        ("mine-a", "gpt", "judge"),
        ("mine-b", "claude", "judge"),
        ("mine-b", "gpt", "judge"),
    ]
    row = found["mine-a", "gpt", "judge"]
    assert (row["pairs"], row["missing"]) == (20, 0)
    assert (row["win"], row["tie"], row["lose"]) == (0.25, 0.1, 0.65)
    assert row["win_rate"] == pytest.approx(0.3)
    assert (row["win_low"], row["win_high"]) == pytest.approx(clopper_pearson(5, 20))
    assert row["win_rate_low"] < 0.3 < row["win_rate_high"]
    assert set(row) == {column.name for column in CONTEST}


def test_more_judgments_of_one_arm_hide_no_other(tmp_path: Path) -> None:
    """The arm of most pairs was the only one that was shown."""
    storage = Storage(str(tmp_path))
    for arm in WORDS:
        write_responses(storage, arm)
    write_verdicts(storage, "mine-a", "gpt", ["A"] * 5)
    write_verdicts(storage, "mine-b", "claude", ["B"] * 20)
    write_verdicts(storage, "mine-b", "claude", ["A"] * 20, judge="other judge")
    assert sorted(pairs_of(storage)) == [
        ("mine-a", "gpt", "judge"),
        ("mine-b", "claude", "judge"),
        ("mine-b", "claude", "other judge"),
    ]
    said = html.unescape(figure(render_report(storage, note=pytest.fail), "preference_model"))
    assert "mine-a against gpt (judge) the first wins 100%" in said
    assert "mine-b against claude (judge) the first wins 0%, tie 0%, it loses 100%" in said
    assert "mine-b against claude (other judge) the first wins 100%" in said


def test_the_report_has_every_pair_and_a_matrix(study: Storage) -> None:
    page = render_report(study, note=pytest.fail)
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    for pair in (
        "mine-a gpt judge 20 0 25 [9, 49] 10 65 30 [",
        "mine-b claude judge 20 0 90 [68, 99] 10 0 95 [",
    ):
        assert pair in text
    assert "row against column, % claude gpt mine-a mine-b claude – – 20 5 gpt – – 70 45" in text
    drawn = html.unescape(figure(page, "preference_model"))
    assert drawn.count("the first wins") > 3


def test_the_command_writes_pairs_in_every_format(
    study: Storage, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(["aggregate", study.uri]) == 0
    told = capfdbinary.readouterr().out.decode()
    assert re.search(r"mine-a +gpt +judge +20 +25 \[9, 49\] +10 +65 +30 \[", told)
    assert "win rates of rows against columns by judge, %" in told
    assert run(["aggregate", study.uri, "--format", "json"]) == 0
    document = json.loads(capfdbinary.readouterr().out)
    assert len(document["pairs"]) == 4
    assert len(document["rows"]) == 6  # a cell of each judged run, and the baselines' own
    assert run(["aggregate", study.uri, "--by", "against", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode())))
    assert [float(row["win_rate"]) for row in rows] == [p["win_rate"] for p in document["pairs"]]
    assert run(["aggregate", study.uri, "--by", "against", "--by", "seed"]) == 2


def test_people_are_told_from_judges(tmp_path: Path) -> None:
    rows = [
        event(
            i,
            kind="preference",
            label="A",
            arm_1="x",
            arm_2="y",
            response_2="r",
            item_id=str(i),
            rater_group="crowd" if i < 6 else "author",
        )
        for i in range(8)
    ]
    rows += [
        event(
            9,
            kind="preference",
            label="B",
            arm_1="y",
            arm_2="x",
            response_2="r",
            item_id="9",
            rater_group="crowd",
        )
    ]
    storage = Storage(str(tmp_path))
    RunTable.of(storage, ANNOTATIONS, IDENTITY).write("l", rows)
    [row] = contest_rows(Labelled(read_labels(Tables(storage))), {})
    assert (row["raters"], row["arm"], row["against"], row["pairs"]) == ("people", "x", "y", 9)
    assert row["win"] == 1.0
    assert row["lc_win_rate"] is None


def test_two_responses_of_one_arm_are_a_pair_too(tmp_path: Path) -> None:
    rows = [
        event(
            i,
            kind="preference",
            label=label,
            arm_1="x",
            arm_2="x",
            response_1=f"{side}{i}",
            response_2=f"m{i}",
            item_id=str(i),
        )
        for i, (label, side) in enumerate([("A", "a"), ("A", "z"), ("A", "a"), ("B", "z")])
    ]
    storage = Storage(str(tmp_path))
    RunTable.of(storage, ANNOTATIONS, IDENTITY).write("l", rows)
    [row] = contest_rows(Labelled(read_labels(Tables(storage))), {})
    assert (row["arm"], row["against"], row["win"]) == ("x", "x", 0.75)


# At equal length


def made(skill: float, effect: float, count: int) -> tuple[list[float], list[float]]:
    """Return outcomes that follow skill and length as the model says, and the differences."""
    rng = np.random.default_rng(0)
    differences = rng.normal(300, 400, count)
    z = skill + effect * np.tanh(differences / differences.std())
    won = rng.random(count) < 1 / (1 + np.exp(-z))
    return won.astype(float).tolist(), differences.tolist()


@pytest.mark.parametrize("skill", [-0.5, 0.0, 0.8])
def test_length_controlled_finds_what_is_left_of_a_preference_for_length(skill: float) -> None:
    points, differences = made(skill, 1.5, 20_000)
    expected = 1 / (1 + np.exp(-skill))
    found = length_controlled(points, differences)
    assert found == pytest.approx(expected, abs=0.02)
    assert np.mean(points) - expected > 0.05  # longer responses won more than they deserve


def test_without_a_difference_it_is_the_win_rate() -> None:
    assert length_controlled([1, 0.5, 0, 1] * 5, [0] * 20) == pytest.approx(0.625, abs=1e-3)


def test_what_cannot_be_told_is_not() -> None:
    assert length_controlled([1.0] * 20, [7.0] * 20) is None
    assert length_controlled([1.0, 0.0] * 10, list(range(1, 21))) is None  # never the shorter one
    assert length_controlled([1.0, 0.0], [1.0, 2.0]) is None


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(-5000, 5000)),
        min_size=10,
        max_size=40,
    )
)
def test_it_is_a_share_and_turns_with_the_pair(rows: list[tuple[float, int]]) -> None:
    points, differences = zip(*rows, strict=True)
    found = length_controlled(points, differences)
    if found is None:
        return
    assert 0 <= found <= 1
    turned = length_controlled([1 - p for p in points], [-d for d in differences])
    assert turned == pytest.approx(1 - found, abs=1e-3)


def test_the_aggregate_knows_the_lengths(study: Storage, tmp_path: Path) -> None:
    """Where one side is always the longer, nothing is told; else length is taken into account."""
    found = pairs_of(study)
    assert {key[:2]: row["lc_win_rate"] is not None for key, row in found.items()} == {
        ("mine-a", "claude"): False,
        ("mine-a", "gpt"): False,
        ("mine-b", "claude"): False,
        ("mine-b", "gpt"): False,
    }
    storage = Storage(str(tmp_path))
    for arm in ("mine-a", "gpt"):
        write_responses(storage, arm, even=arm == "gpt")
    write_verdicts(storage, "mine-a", "gpt", ["B"] * 8 + ["A"] * 12)
    [row] = pairs_of(storage).values()
    assert row["win_rate"] == pytest.approx(0.6)
    assert row["lc_win_rate"] > 0.8  # it lost only where it was much the shorter
