"""Every number of the paper beside ours: fed-in counts must be judged for what they are."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lima.errors import DataError, InputError
from lima.evaluation.paper.arms import is_arm_of_paper
from lima.evaluation.paper.compare import compare_paper
from lima.evaluation.paper.numbers import Compared, Fact, Ours, judge_fact, paper_facts, written
from lima.evaluation.statistics.intervals import CLUSTERED, EXACT, clopper_pearson
from lima.recipes.paper import alpaca_65b
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS
from lima_k8s.main import run
from tests.helpers.paper_labels import BASELINES
from tests.helpers.paper_shares import (
    CELLS,
    IDENTITY,
    alone,
    event,
    named_in,
    others,
    preferences,
    shares,
)
from tests.helpers.synthetic import Arm, Study, write_run, write_study


def compared(folder: Path, rows: Sequence[dict[str, Any]], *what: str) -> list[Compared]:
    storage = Storage(str(folder))
    RunTable.of(storage, ANNOTATIONS, IDENTITY).write("labels", list(rows))
    found = compare_paper(storage, named=named_in(rows), note=print)
    return [c for c in found if c.fact.of[0] in what]


def test_the_papers_own_cells_are_within(tmp_path: Path) -> None:
    absolute = alone("absolute", shares({"excellent": 50, "pass": 38, "fail": 12}, 50), 10_000)
    rows = [*preferences(0, 300), *absolute, *others()]
    kinds = (
        "preference",
        "absolute",
        "safety",
        "dialogue",
        "dialogue_failed",
        "dialogue_preference",
    )
    found = compared(tmp_path, rows, *kinds)
    assert len(found) == 34 + 3 + 2 + 6 + 1 + 3
    assert {(c.fact.name, c.status) for c in found} == {(c.fact.name, "within") for c in found}
    for c in found:
        assert c.ours
        assert c.ours.method == "Clopper-Pearson"
        assert c.ours.value == pytest.approx(c.fact.value, abs=5e-4)
        assert c.ours.n == c.fact.n


def test_out_of_distribution_prompts_are_told_apart(tmp_path: Path) -> None:
    rows = alone(
        "absolute",
        shares({"excellent": 45, "pass": 35, "fail": 20}, 20),
        0,
        out_of_distribution=True,
    )
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
        event(
            50 * r + i,
            kind="preference",
            item_id=str(i),
            arm_2="bard",
            response_2="y",
            rater=rater,
            rater_group=group,
            label="B" if (i // 5 == r) == (i % 2 == 0) else "A",
        )
        for r, (group, rater) in enumerate(raters)
        for i in range(50)
    ]
    found = compared(tmp_path, rows, "agreement")
    assert {c.status for c in found} == {"within"}
    for c in found:
        assert c.ours
        assert (c.ours.method, c.ours.n) == ("Clopper-Pearson", 50)
        assert c.ours.value == pytest.approx(0.8)


def test_what_there_is_no_data_for_says_so(tmp_path: Path) -> None:
    found = compared(tmp_path, preferences(0, 10), "safety", "tokens", "setting", "score")
    assert {c.status for c in found} == {"no data"}
    assert all(c.why for c in found)
    assert {c.rows_needed for c in found if c.fact.of[0] == "safety"} == {30, 10}


def test_an_arms_name_is_no_evidence(tmp_path: Path) -> None:
    """Arms that are called like the paper's are not them, unless somebody says so."""
    rows = preferences(0, 300)
    storage = Storage(str(tmp_path))
    RunTable.of(storage, ANNOTATIONS, IDENTITY).write("labels", rows)
    known = [c for c in compare_paper(storage, note=print) if c.fact.of[0] == "preference"]
    assert {c.status for c in known} == {"no data"}
    assert "--as ARM=lima" in str(known[0].why)
    found = compare_paper(storage, named=named_in(rows), note=print)
    assert {c.status for c in found if c.fact.of[0] == "preference"} == {"within"}
    with pytest.raises(InputError, match="--as lima=llama: the paper has no such arm; it has lima"):
        compare_paper(storage, named={"llama": "lima"}, note=print)
    with pytest.raises(InputError, match=r"no arm is 'hers'; there are .*lima"):
        compare_paper(storage, named={"lima": "hers"}, note=print)


def test_a_small_arm_called_alpaca_is_not_alpaca(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study((Arm("alpaca", 32), Arm("filtered-2k"), Arm("lima"))))
    found = {c.fact.name: c for c in compare_paper(storage, note=print)}
    runs = ("examples", "steps", "score", "setting/lima", "setting/filtered", "perplexity_sign")
    told = {name: c.status for name, c in found.items() if name.startswith(runs)}
    assert len(told) > 30
    assert set(told.values()) == {"no data"}
    said = compare_paper(storage, named={"alpaca_65b": "alpaca"}, note=print)
    [size] = [c for c in said if c.fact.name == "examples/alpaca_65b"]
    assert size.ours
    assert (size.status, size.ours.value) == ("outside", 32)


@pytest.mark.parametrize(
    ("change", "is_lima"),
    [
        ({}, True),
        ({"data": {"path": "/mnt/lima/train.jsonl.gz", "count": None}}, True),
        ({"model": {"path": "/models/llama-65b-hf"}}, True),
        ({"model": {"path": "huggyllama/llama-7b"}}, False),
        ({"model": {"path": "run:base"}}, False),
        ({"data": {"path": "train.jsonl", "count": 999}}, False),
        ({"data": {"path": "mine.jsonl", "count": 1000}}, False),
        ({"data": {"path": "train.jsonl", "count": 1000, "sources": ["wikihow"]}}, False),
    ],
)
def test_an_arm_is_limas_by_what_it_is_trained_on(change: dict[str, Any], is_lima: bool) -> None:
    train = {
        "model": {"path": "huggyllama/llama-65b"},
        "data": {"path": "data/lima/train.jsonl", "count": 1000},
    }
    assert is_arm_of_paper("lima", {"train": train | change}, 1000) == is_lima
    assert not is_arm_of_paper("alpaca_65b", {"train": train | change}, 1000)


@pytest.mark.parametrize("path", ["endpoint:http://h/v1#gpt-4", "endpoint:https://h/v1#GPT-4"])
def test_a_baseline_is_the_papers_by_the_model_it_asks_for(path: str) -> None:
    assert is_arm_of_paper("gpt-4", {"generate": {"model": {"path": path}}}, None)
    for other in (f"{path}o-mini", "responses:gpt-4.json", "gpt-4"):
        assert not is_arm_of_paper("gpt-4", {"generate": {"model": {"path": other}}}, None)


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
    named = {arm: arm for arm in ("filtered-2k", "unfiltered-2k")}
    found = {c.fact.name: c for c in compare_paper(storage, named=named, note=print)}
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
    [
        ((0.53, 0.47, 0.59), "within"),
        ((0.60, 0.54, 0.66), "outside"),
        ((0.53, 0.20, 0.86), "underpowered"),
        ((0.53, None, None), "underpowered"),
    ],
)
def test_statuses(ours: tuple[float, float | None, float | None], status: str) -> None:
    fact = Fact(("preference",), "4.2", "S", 0.53, n=300)
    assert judge_fact(fact, Ours(*ours, "Clopper-Pearson", n=9)).status == status


def test_marks_say_what_the_text_tells() -> None:
    """Section 4.2 tells these two cells in words; the others stand in the figures alone."""
    told = {f.name for f in paper_facts() if f.of[0] == "preference" and f.mark == "S"}
    assert {n for n in told if not n.endswith("equal_or_better")} == {
        "preference/human/bard/lose",
        "preference/model/gpt-4/win",
    }


def test_every_fact_has_a_section_and_a_name_of_its_own() -> None:
    facts = paper_facts()
    assert len(facts) == 151
    assert len({fact.name for fact in facts}) == len(facts)
    assert all(fact.section for fact in facts)
    for rater in ("human", "model"):
        for baseline in BASELINES:
            cell = [
                v
                for k, v in CELLS.items()
                if k[1:3] == (rater, baseline) and len(k) == 4 and k[3] != "equal_or_better"
            ]
            assert sum(cell) == pytest.approx(1)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = preferences(0, 300)
    RunTable.of(Storage(str(tmp_path)), ANNOTATIONS, IDENTITY).write("labels", rows)
    said = [text for name, arm in named_in(rows).items() for text in ("--as", f"{arm}={name}")]
    command = ["compare-paper", str(tmp_path), *said]
    assert run([*command, "--section", "4.2", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {"within": 34}
    assert {row["source"] for row in document["facts"]} == {"S", "sec"}
    assert run([*command, "--with-data"]) == 0
    captured = capsys.readouterr()
    assert "53 % [47.18 %, 58.76 %]" in captured.out
    assert captured.err == "34 within, 1 outside\n"  # raters agree more than the paper's
    for wrong in (["lima"], ["=lima"], ["lima=lima", "--as", "Bard=lima"]):
        assert run(["compare-paper", str(tmp_path), "--as", *wrong]) == 2
        assert "--as" in capsys.readouterr().err


def test_large_numbers_are_written_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Storage(str(tmp_path)), alpaca_65b()[0], "train", 52_000)
    assert run(["compare-paper", str(tmp_path), "--with-data"]) == 0
    out = capsys.readouterr().out
    assert "52,000" in out
    assert "e+0" not in out
    assert [written(v) for v in (1e-05, 3.829, 999.5, 469, 2048.0)] == [
        "1e-05",
        "3.829",
        "999.5",
        "469",
        "2,048",
    ]
