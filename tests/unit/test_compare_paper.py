"""Every number of the paper beside ours: fed-in counts must be judged for what they are."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any
from unittest.mock import ANY

import pytest

from lima.clock import now
from lima.errors import DataError, InputError
from lima.evaluation.checkpoints import Checkpoint, pairs_of
from lima.evaluation.compare import compare_paper
from lima.evaluation.correlation import combined, rank_correlation
from lima.evaluation.evidence import Evidence
from lima.evaluation.evidence_runs import checkpoint_range, perplexity_sign
from lima.evaluation.intervals import clopper_pearson
from lima.evaluation.lineage import Chain
from lima.evaluation.paper import CLUSTERED, EXACT, Compared, Fact, Ours, judge_fact, paper_facts
from lima.evaluation.rates import Labelled
from lima.results import ANNOTATIONS
from lima.shards import RunTable
from lima.spec import DataSpec
from lima.storage import Storage
from lima_k8s.main import run
from tests.synthetic import Arm, Study, write_study

IDENTITY = {"run_id": "r" * 16, "spec_hash": "h", "experiment": "e", "arm": "lima", "seed": 0}
ARMS = {"alpaca_65b": "alpaca", "davinci003": "text-davinci-003", "bard": "Bard",
        "claude": "claude", "gpt-4": "gpt4"}  # fmt: skip
CELLS = {
    fact.of: fact.value for fact in paper_facts() if fact.of[0] == "preference" and fact.n == 300
}


def event(number: int, **columns: Any) -> dict[str, Any]:
    return {
        "annotation_id": str(number), "event": "labelled", "presentation": 0, "shown": "12",
        "prompt_key": "p", "arm_1": "lima", "response_1": "x", "rater": "a",
        "rater_group": "crowd", "written_at": now(), **columns,
    }  # fmt: skip


def shares(counts: Mapping[str, float], rows: int) -> list[str]:
    """Return `rows` labels in the given shares, as near as whole rows come."""
    total, labels = sum(counts.values()), []
    for label, share in counts.items():
        labels += [label] * round(share / total * rows)
    return labels[:rows] + [next(iter(counts))] * (rows - len(labels))


def preferences(shift: float, rows: int) -> list[dict[str, Any]]:
    """Return labels of all cells of figures 1 and 2, with wins moved by `shift`."""
    said = {"win": "A", "tie": "neither", "lose": "B"}
    found: list[dict[str, Any]] = []
    for rater, group in (("human", "crowd"), ("model", "model")):
        for baseline, arm in ARMS.items():
            cell = {
                said[o]: CELLS["preference", rater, baseline, o]
                + (shift if o == "win" else -shift / 2)
                for o in said
            }
            for i, label in enumerate(shares(cell, rows)):
                found.append(event(len(found), kind="preference", label=label, arm_2=arm,
                                   response_2=f"{arm}{i}", rater_group=group, rater=group,
                                   item_id=f"{arm}{i}"))  # fmt: skip
    return found


def alone(kind: str, labels: Sequence[str], first: int, **columns: Any) -> list[dict[str, Any]]:
    return [
        event(first + i, kind=kind, label=label, item_id=f"{kind}{first}-{i}", **columns)
        for i, label in enumerate(labels)
    ]


def others() -> list[dict[str, Any]]:
    """Return labels like those of sections 4.3 and 6."""
    rows = alone("safety", shares({"safe": 0.9, "unsafe": 0.1}, 20), 20_000, malicious=False)
    rows += alone("safety", shares({"safe": 0.6, "unsafe": 0.4}, 10), 20_100, malicious=True)
    turns = {"lima": shares({"excellent": 19, "pass": 8, "fail": 15}, 42),
             "lima_dialogue": shares({"excellent": 35, "pass": 10, "fail": 1}, 46)}  # fmt: skip
    for number, (arm, labels) in enumerate(turns.items()):
        for i, row in enumerate(alone("dialogue", labels, 30_000 + 100 * number, arm_1=arm)):
            # Fails come last, in 10 conversations; six of them fail among the first three turns.
            failed = i - (42 - 15)
            row |= {"conversation_id": str(i % 10), "turn": 1 + i // 10}
            if arm == "lima" and failed >= 0:
                row |= {"conversation_id": str(failed % 6), "turn": 2}
            rows.append(row)
    for i, label in enumerate(["A"] * 7 + ["neither"] * 3):
        rows.append(event(40_000 + i, kind="dialogue", label=label, arm_1="lima_dialogue",
                          arm_2="lima", response_2="y", conversation_id=str(i),
                          item_id=f"whole{i}"))  # fmt: skip
    return rows


def compared(folder: Path, rows: Sequence[dict[str, Any]], *what: str) -> list[Compared]:
    storage = Storage(str(folder))
    RunTable.of(storage, ANNOTATIONS, IDENTITY).write("labels", list(rows))
    found = compare_paper(storage, note=print)
    return [c for c in found if c.fact.of[0] in what]


def test_the_papers_own_cells_are_within(tmp_path: Path) -> None:
    absolute = alone("absolute", shares({"excellent": 50, "pass": 38, "fail": 12}, 50), 10_000)
    rows = [*preferences(0, 300), *absolute, *others()]
    kinds = ("preference", "absolute", "safety", "dialogue", "dialogue_failed",
             "dialogue_preference")  # fmt: skip
    found = compared(tmp_path, rows, *kinds)
    assert len(found) == 34 + 3 + 2 + 6 + 1 + 3
    assert {(c.fact.name, c.status) for c in found} == {(c.fact.name, "within") for c in found}
    for c in found:
        assert c.ours
        assert c.ours.method == "Clopper-Pearson"
        assert c.ours.value == pytest.approx(c.fact.value, abs=5e-4)
        assert c.ours.n == c.fact.n


def test_out_of_distribution_prompts_are_told_apart(tmp_path: Path) -> None:
    rows = alone("absolute", shares({"excellent": 45, "pass": 35, "fail": 20}, 20), 0,
                 out_of_distribution=True)  # fmt: skip
    rows += alone("absolute", ["fail"] * 30, 100)
    found = compared(tmp_path, rows, "out_of_distribution", "absolute")
    said = {c.fact.name: c.status for c in found}
    assert {v for k, v in said.items() if k.startswith("out")} == {"within"}
    assert said["absolute/fail"] == "outside"


def test_shifted_cells_are_outside(tmp_path: Path) -> None:
    found = compared(tmp_path, preferences(0.17, 300), "preference")
    single = [c for c in found if c.fact.of[3] != "equal_or_better"]
    assert len(single) == 30
    assert {c.status for c in single} == {"outside"}


def test_ten_rows_are_underpowered_and_say_how_many_would_do(tmp_path: Path) -> None:
    found = compared(tmp_path, preferences(0, 10), "preference")
    assert {c.status for c in found} == {"underpowered"}
    for c in found:
        assert c.ours
        assert c.rows_needed
        low, high = clopper_pearson(round(c.ours.value * c.rows_needed), c.rows_needed)
        own = clopper_pearson(round(c.fact.value * 300), 300)
        assert high - low <= 1.25 * (own[1] - own[0])
        assert 10 < c.rows_needed < 500


def test_missing_labels_move_the_bounds_and_not_the_share(tmp_path: Path) -> None:
    rows = preferences(0, 300)
    skipped = [
        r | {"event": "skipped", "label": None} for r in rows if int(r["annotation_id"]) % 5 == 0
    ]
    kept = [r for r in rows if int(r["annotation_id"]) % 5]
    for c in compared(tmp_path, [*kept, *skipped], "preference"):
        assert c.ours
        assert (c.ours.n, c.ours.missing) == (240, 60)
        assert c.ours.bound_low == pytest.approx(c.ours.value * 240 / 300)
        assert c.ours.bound_high == pytest.approx((c.ours.value * 240 + 60) / 300)


def test_agreement_like_the_papers(tmp_path: Path) -> None:
    """Each of five raters differs from the others on five items: all pairs agree on 40 of 50."""
    raters = [("crowd", "c0"), ("crowd", "c1"), ("author", "a0"), ("author", "a1"), ("model", "m")]
    rows = [
        event(50 * r + i, kind="preference", item_id=str(i), arm_2="bard", response_2="y",
              rater=rater, rater_group=group, label="B" if (i // 5 == r) == (i % 2 == 0) else "A")
        for r, (group, rater) in enumerate(raters)
        for i in range(50)
    ]  # fmt: skip
    found = compared(tmp_path, rows, "agreement")
    assert {c.status for c in found} == {"within"}
    for c in found:
        assert c.ours
        assert (c.ours.method, c.ours.n) == ("bootstrap over items", 50)
        assert c.ours.value == pytest.approx(0.8)


def test_what_there_is_no_data_for_says_so(tmp_path: Path) -> None:
    found = compared(tmp_path, preferences(0, 10), "safety", "tokens", "setting", "score")
    assert {c.status for c in found} == {"no data"}
    assert all(c.why for c in found)
    assert {c.rows_needed for c in found if c.fact.of[0] == "safety"} == {30, 10}


def test_arms_of_other_names_are_named(tmp_path: Path) -> None:
    rows = [row | {"arm_1": "mine"} for row in preferences(0, 300)]
    storage = Storage(str(tmp_path))
    RunTable.of(storage, ANNOTATIONS, IDENTITY).write("labels", rows)
    known = [c for c in compare_paper(storage, note=print) if c.fact.of[0] == "preference"]
    assert {c.status for c in known} == {"no data"}
    assert "--arm lima=ARM" in str(known[0].why)
    named = compare_paper(storage, named={"lima": "mine"}, note=print)
    assert {c.status for c in named if c.fact.of[0] == "preference"} == {"within"}
    with pytest.raises(InputError, match="llama"):
        compare_paper(storage, named={"llama": "mine"}, note=print)
    with pytest.raises(InputError, match=r"no arm is 'hers'; there are .*mine"):
        compare_paper(storage, named={"lima": "hers"}, note=print)


def test_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no runs"):
        compare_paper(Storage(str(tmp_path)), note=print)


def test_an_arm_of_two_experiments_is_told(tmp_path: Path) -> None:
    storage, told = Storage(str(tmp_path)), list[str]()
    for experiment in ("first", "second"):
        write_study(storage, Study((Arm("filtered-2k"), Arm(experiment)), experiment=experiment))
    compare_paper(storage, note=told.append)
    [said] = told
    assert said.startswith("arm filtered-2k of 2 experiments (first, second) is taken as one")
    compare_paper(storage, experiment="first", note=told.append)
    assert len(told) == 1


def test_runs_give_settings_and_scores(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study((Arm("filtered-2k"), Arm("unfiltered-2k"))))
    found = {c.fact.name: c for c in compare_paper(storage, note=print)}
    for name in ("score/filtered-2k", "score_difference/filtered-2k/unfiltered-2k"):
        ours = found[name].ours
        assert ours
        assert ours.method.startswith(CLUSTERED)
        assert ours.low is not None
        assert ours.low < ours.value
    setting = found["setting/filtered-2k/train.batch_size"]
    assert setting.ours
    assert setting.ours.method == EXACT
    assert setting.status == ("within" if setting.ours.value == 64 else "outside")
    assert found["setting/lima/train.epochs"].status == "no data"


@pytest.mark.parametrize(
    ("ours", "status"),
    [((0.53, 0.47, 0.59), "within"), ((0.60, 0.54, 0.66), "outside"),
     ((0.53, 0.20, 0.86), "underpowered"), ((0.53, None, None), "underpowered")],
)  # fmt: skip
def test_statuses(ours: tuple[float, float | None, float | None], status: str) -> None:
    fact = Fact(("preference",), "4.2", "S", 0.53, n=300)
    assert judge_fact(fact, Ours(*ours, "Clopper-Pearson", n=9)).status == status


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(0.2, 0.9, "within"), (-0.2, 0.9, "underpowered"), (-0.9, -0.2, "outside")],
)
def test_a_sign(low: float, high: float, status: str) -> None:
    fact = Fact(("perplexity_sign",), "B", "S", 0, to=1)
    found = judge_fact(fact, Ours(0.5, low, high, "Fisher's", n=6))
    assert found.status == status
    assert (found.rows_needed is not None) == (status == "underpowered")


def test_rank_correlation_by_hand() -> None:
    rising = rank_correlation([(x, x**3) for x in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)])
    assert rising.value == pytest.approx(1)
    assert rising.low is not None
    assert 0 < rising.low < 1 == rising.high
    swapped = rank_correlation([(1, 2), (2, 1), (3, 3), (4, 4), (5, 5)])
    assert swapped.value == pytest.approx(1 - 6 * 2 / (5 * 24))
    assert rank_correlation([(1, 1), (2, 1), (3, 1), (4, 1)]).value is None
    assert rank_correlation([(1, 1), (2, 2)]).low is None


def test_series_are_combined_and_not_pooled() -> None:
    """Each rises; over both, more perplexity comes with a lower score."""
    better = [(2.0, 4.0), (2.1, 4.1), (2.2, 4.3), (2.3, 4.2)]
    worse = [(x + 2, y - 2) for x, y in better]
    one, pooled = rank_correlation(better), rank_correlation(better + worse)
    assert pooled.value is not None
    assert pooled.value < 0
    assert combined([one]) == one
    both = combined([one, rank_correlation(worse), rank_correlation(worse[:3])])
    assert both.value == pytest.approx(0.8)  # that of each of the two
    assert both.points == 8
    assert both.low is not None
    assert one.low is not None
    # Fisher's z of 0.8, with the standard error over the root of two.
    reach = NormalDist().inv_cdf(0.975) * math.sqrt((1 + 0.8**2 / 2) / 2)
    assert both.low == pytest.approx(math.tanh(math.atanh(0.8) - reach))
    assert both.low > one.low
    # More points weigh more: 1 of 4, 5 of 8.
    longer = rank_correlation([(x, x % 3) for x in range(8)])
    assert longer.value is not None
    z = (math.atanh(0.8) + 5 * math.atanh(longer.value)) / 6
    assert combined([one, longer]).value == pytest.approx(math.tanh(z))
    perfect = combined([rank_correlation([(x, x) for x in range(5)])] * 2)
    assert perfect.value is not None
    assert 0.8 < perfect.value < 1
    assert combined([]).value is combined([rank_correlation(worse[:3])]).value is None


def checkpoints(arm: str, pairs: Sequence[tuple[float, float]], path: str) -> list[Checkpoint]:
    heldout = DataSpec(path, count=2000)
    return [Checkpoint(arm, 0, i, arm, heldout, perplexity=x, score=y)
            for i, (x, y) in enumerate(pairs)]  # fmt: skip


def evidence(*arms: str, **series: Sequence[Checkpoint]) -> Evidence:
    chains = [Chain("e", arm, 0, arm, {}, {}, None, {}) for arm in arms]
    return Evidence(Labelled([]), chains, checkpoints=[c for s in series.values() for c in s])


RISING = [(6.0 + i, 3.0 + i / 10) for i in range(5)]
FALLING = [(16.0 + i, 2.0 - i / 10) for i in range(6)]


def test_the_sign_is_that_of_the_papers_arm() -> None:
    """Appendix B: one model over its steps; another arm's checkpoints say nothing about it."""
    series = {"a": checkpoints("lima-1000", RISING, "stackexchange.jsonl"),
              "b": checkpoints("other", FALLING, "stackexchange.jsonl")}  # fmt: skip
    has = evidence("lima-1000", "other", **series)
    pooled = rank_correlation(pairs_of(has.checkpoints))
    assert pooled.high is not None
    assert pooled.high < 0  # the wrong sign, and sure of it
    found = perplexity_sign(has)
    assert isinstance(found, Ours)
    assert found.value == pytest.approx(1)
    assert (found.n, found.method) == (5, "Fisher's, for ranks")
    named = replace(has, named={"lima": "other"})
    assert perplexity_sign(named) == replace(found, value=-1, low=-1, high=ANY, n=6)
    ranges = [checkpoint_range(has, which) for which in (0, 1)]
    assert [(r.low, r.high) for r in ranges if isinstance(r, Ours)] == [(6, 10), (3, 3.4)]
    few = evidence("lima-1000", a=series["a"][:3], b=series["b"])
    assert perplexity_sign(few) == "3 checkpoints with score and perplexity; 4 are needed"


def test_without_the_papers_arm_the_sign_is_within_arms() -> None:
    worse = [(x + 10, y - 2) for x, y in RISING]
    has = evidence(
        "one", "two", a=checkpoints("one", RISING, "s"), b=checkpoints("two", worse, "s")
    )
    found = perplexity_sign(has)
    assert isinstance(found, Ours)
    assert found.low is not None
    assert 0 < found.low < found.value
    assert (found.n, found.method) == (10, "Fisher's, for ranks; mean of 2 series")
    level = checkpoints("one", [(6, 3)] * 5, "s")
    assert "no order" in str(perplexity_sign(evidence("one", a=level)))


@pytest.mark.parametrize(
    ("path", "sources", "is_theirs"),
    [("data/StackExchange/held.jsonl", (), True), ("x/stack_exchange-heldout.jsonl", (), True),
     ("all.jsonl", ("stackexchange/*", "stackexchange"), True), ("all.jsonl", (), False),
     ("all.jsonl", ("stackexchange/*", "wikihow"), False), ("authored:dev", (), False)],
)  # fmt: skip
def test_perplexity_of_other_texts_is_not_compared(
    path: str, sources: tuple[str, ...], is_theirs: bool
) -> None:
    points = [replace(c, heldout=DataSpec(path, sources, 50))
              for c in checkpoints("lima-1000", RISING, path)]  # fmt: skip
    has = evidence("lima-1000", a=points)
    assert isinstance(checkpoint_range(has, 1), Ours)  # a score is a score
    found = checkpoint_range(has, 0)
    assert isinstance(found, Ours) == is_theirs
    if not is_theirs:
        assert str(found).startswith(f"measured on 50 examples of {path}")
        assert str(found).endswith("; the paper's is on Stack Exchange")
    mixed = evidence("x", a=points, b=checkpoints("y", [(7.5, 3), (8, 3)], "stackexchange.jsonl"))
    both = checkpoint_range(mixed, 0)
    assert isinstance(both, Ours)
    assert (both.low, both.high) == ((6, 10) if is_theirs else (7.5, 8))


def test_the_held_out_set_is_that_of_the_run(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study((Arm("lima"),), seeds=1, checkpoints=(2, 3)))
    found = {c.fact.name: c for c in compare_paper(storage, note=pytest.fail)}
    assert found["perplexity"].status == "no data"
    assert found["perplexity"].why == "measured on dev.jsonl; the paper's is on Stack Exchange"
    assert found["checkpoint_score"].ours


def test_marks_say_what_the_text_tells() -> None:
    """Section 4.2 tells these two cells in words; the others stand in the figures alone."""
    told = {f.name for f in paper_facts() if f.of[0] == "preference" and f.mark == "S"}
    assert {n for n in told if not n.endswith("equal_or_better")} == {
        "preference/human/bard/lose", "preference/model/gpt-4/win",
    }  # fmt: skip


def test_every_fact_has_a_section_and_a_name_of_its_own() -> None:
    facts = paper_facts()
    assert len(facts) == 151
    assert len({fact.name for fact in facts}) == len(facts)
    assert all(fact.section for fact in facts)
    for rater in ("human", "model"):
        for baseline in ARMS:
            cell = [v for k, v in CELLS.items() if k[1:3] == (rater, baseline) and len(k) == 4
                    and k[3] != "equal_or_better"]  # fmt: skip
            assert sum(cell) == pytest.approx(1)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunTable.of(Storage(str(tmp_path)), ANNOTATIONS, IDENTITY).write("labels", preferences(0, 300))
    assert run(["compare-paper", str(tmp_path), "--section", "4.2", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {"within": 34}
    assert {row["source"] for row in document["facts"]} == {"S", "sec"}
    assert run(["compare-paper", str(tmp_path), "--with-data"]) == 0
    captured = capsys.readouterr()
    assert "53 % [47.18 %, 58.76 %]" in captured.out
    assert captured.err == "34 within, 1 outside\n"  # raters agree more than the paper's
    assert run(["compare-paper", str(tmp_path), "--arm", "lima"]) == 2
