"""Agreement against an independent script, published worked examples and by hand."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.evaluation.agreement.majority import majorities
from lima.evaluation.agreement.rater_habits import raters_of
from lima.evaluation.agreement.tie_discounted import (
    Agreement,
    agreement,
    all_agreements,
    ratings_of,
)
from lima.rating.importing import import_labels
from lima.rating.labels import VALUES, Label, answering, read_labels
from lima.store.scan import Tables
from lima.store.storage import Storage

VOTES = ("mtbench_human/human.jsonl.gz", "mtbench_human/gpt4_pair.jsonl.gz")
INDEPENDENT = Path(__file__).parents[2] / "independent" / "agreement.py"
PAIR = VALUES["preference"]


def labels(**raters: Sequence[str | None]) -> list[Label]:
    """Return labels of items 0, 1, …; a rater is GROUP_NAME, None is an item it did not see."""
    return [
        Label(str(item), 0, "preference", rater, rater.split("_")[0], value, "ok", "x", "y", "p")
        for rater, values in raters.items()
        for item, value in enumerate(values)
        if value is not None
    ]


def agree(found: Sequence[Label], first: str, second: str, values: Sequence[str]) -> Agreement:
    groups = sorted({x.group for x in found})
    return agreement(ratings_of(found, groups, values), first, second, draws=500)


def test_real_votes_agree_as_an_independent_script_says(shared_data: Path, tmp_path: Path) -> None:
    storage, votes = Storage(str(tmp_path)), [shared_data / name for name in VOTES]
    for path in votes:
        import_labels(path, storage, "mtbench", "mtbench")
    found = {
        "-".join(a.between): a for a in all_agreements(read_labels(Tables(storage)), "preference")
    }
    script = [sys.executable, str(INDEPENDENT), *map(str, votes)]
    expected = json.loads(subprocess.run(script, check=True, capture_output=True).stdout)
    assert found.keys() == expected.keys()
    assert sum(e["pairs"] for e in expected.values()) > 5000
    for name, values in expected.items():
        ours = found[name]
        assert (ours.items, ours.pairs) == (values["items"], values["pairs"])
        for measure in ("accuracy", "with_ties", "without_ties", "kappa", "alpha"):
            estimate = getattr(ours, measure)
            assert estimate.value == pytest.approx(values[measure], abs=1e-12), (name, measure)
            assert estimate.low < estimate.value < estimate.high


def test_mtbenchs_settings_and_inconsistency(shared_data: Path, tmp_path: Path) -> None:
    """GPT-4 and the majority of people, as a report on these votes has it."""
    storage = Storage(str(tmp_path))
    for name in VOTES:
        import_labels(shared_data / name, storage, "mtbench", "mtbench")
    found = read_labels(Tables(storage))
    first, second = majorities(found, "preference", draws=200)
    told = [
        (m.rater, m.setting, m.items, f"{m.agreement.value:.3f}", f"{m.kappa.value:.3f}")
        for m in (first, second)
    ]
    assert told == [
        ("gpt4_pair", "S1", 1814, "0.672", "0.505"),
        ("gpt4_pair", "S2", 1078, "0.884", "0.767"),
    ]
    raters = {rater.rater: rater for rater in raters_of(answering(found, "preference"))}
    judge = raters.pop("gpt4_pair").inconsistent
    assert (judge.count, judge.total) == (380, 2400)
    assert {rater.inconsistent.total for rater in raters.values()} == {0}


def test_the_majority_by_hand() -> None:
    people: dict[str, Sequence[str | None]] = {
        "crowd_a": ["1", "1", "2", "tie", "1"],
        "crowd_b": ["1", "2", "2", "tie", "1"],
        "author_c": ["2", None, "2", "1", "1"],
    }
    found = labels(**people, model_j=["1", "1", "1", "tie", "1"])  # most say 1, tie, 2, tie, 1
    s1, s2 = majorities(found, "preference")
    assert (s1.items, s2.items) == (5, 3)
    assert s1.agreement.value == pytest.approx(3 / 5)
    assert s2.agreement.value == pytest.approx(2 / 3)
    assert majorities(labels(crowd_a=["1"], crowd_b=["1"]), "preference") == []


def test_a_judge_that_changes_with_the_order() -> None:
    shown = [("1", "1"), ("1", "2"), ("tie", "1"), ("tie", "tie")]
    found = [
        Label(
            str(item),
            way,
            "preference",
            "j",
            "model",
            value,
            "ok",
            "x",
            "y",
            "p",
            shown_first="12"[way],
        )
        for item, values in enumerate(shown)
        for way, value in enumerate(values)
    ]
    [rater] = raters_of(found)
    assert (rater.inconsistent.count, rater.inconsistent.total) == (2, 4)


def test_the_accuracy_of_the_paper_by_hand() -> None:
    found = agree(
        labels(crowd_a=["1", "1", "1", "tie", "tie"], author_b=["1", "2", "tie", "tie", "2"]),
        "crowd",
        "author",
        PAIR,
    )
    assert found.accuracy.value == pytest.approx((1 + 0 + 0.5 + 1 + 0.5) / 5)
    assert found.with_ties.value == pytest.approx(2 / 5)
    assert found.without_ties.value == pytest.approx(1 / 2)
    assert (found.items, found.pairs, found.raters) == (5, 5, 2)


def test_kappa_of_a_worked_example() -> None:
    """Two readers of 50 proposals: 20 and 15 alike, 5 and 10 not; kappa is 0.4."""
    first = ["1"] * 25 + ["2"] * 25
    second = ["1"] * 20 + ["2"] * 5 + ["1"] * 10 + ["2"] * 15
    found = agree(labels(crowd_a=first, author_b=second), "author", "crowd", PAIR)
    assert found.kappa.value == pytest.approx(0.4)


NOMINAL = ("a", "b", "c", "d", "e")
MEG = ["0", "1", "0", "0", "0", "0", "0", "0", "1", "0"]
OWEN = ["1", "1", "1", "0", "0", "1", "0", "0", "0", "0"]
BEN, GERRY = list("aabbdcccedda"), list("babbbccceddd")
FOUR = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]


@pytest.mark.parametrize(
    ("raters", "values", "alpha"),
    [
        ([MEG, OWEN], ("0", "1"), 0.095),
        ([BEN, GERRY], NOMINAL, 0.692),
        ([[None if v == "." else v for v in row] for row in FOUR], tuple("12345"), 0.743),
    ],
)
def test_alpha_of_krippendorffs_worked_examples(
    raters: list[list[str | None]], values: Sequence[str], alpha: float
) -> None:
    """Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), sections A, B and C."""
    found = labels(**{f"crowd_{i}": row for i, row in enumerate(raters)})
    assert agree(found, "crowd", "crowd", values).alpha.value == pytest.approx(alpha, abs=5e-4)


@given(st.lists(st.tuples(*[st.sampled_from([*PAIR, None])] * 4), min_size=1, max_size=30))
def test_counting_by_item_is_counting_pairs(rows: list[tuple[str | None, ...]]) -> None:
    names = ("crowd_a", "crowd_b", "author_a", "author_b")
    found = labels(**{n: [row[i] for row in rows] for i, n in enumerate(names)})
    for groups, sides in (
        (("crowd", "author"), [(a, b) for a in (0, 1) for b in (2, 3)]),
        (("crowd", "crowd"), [(0, 1)]),
    ):
        pairs = [(row[a], row[b]) for row in rows for a, b in sides if row[a] and row[b]]
        if not pairs or not {x.group for x in found}.issuperset(groups):
            continue
        points = [1 if a == b else 0.5 if "tie" in (a, b) else 0 for a, b in pairs]
        ours = agree(found, *groups, PAIR)
        assert ours.pairs == len(pairs)
        assert ours.accuracy.value == pytest.approx(sum(points) / len(pairs))


def test_the_interval_is_that_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(1)
    values = [rng.choice(PAIR, 200).tolist() for _ in range(2)]
    found = labels(crowd_a=values[0], author_b=values[1])
    groups = ["author", "crowd"]
    ours = agreement(ratings_of(found, groups, PAIR), "author", "crowd", draws=20_000).accuracy
    point = np.array(
        [1 if a == b else 0.5 if "tie" in (a, b) else 0 for a, b in zip(*values, strict=True)]
    )
    drawn = [point[rng.integers(0, 200, 200)].mean() for _ in range(20_000)]
    assert [ours.low, ours.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.006)


def test_raters_without_shared_items_have_no_agreement() -> None:
    assert all_agreements(labels(crowd_a=["1", None], author_b=[None, "2"]), "preference") == []


def test_one_shared_item_has_no_interval() -> None:
    [found] = all_agreements(labels(crowd_a=["1"], author_b=["1"]), "preference")
    assert (found.accuracy.value, found.accuracy.low) == (1.0, None)
    assert found.kappa.value is None
