"""What names a judge's run: the responses that baselines mean, and the wording of its rubric."""

from dataclasses import replace
from pathlib import Path

import pytest

from lima.errors import ChangedInputError
from lima.inputs.content import Contents
from lima.judging.tasks import plan_pairs, plan_tasks
from lima.preparing.prepare import prepare
from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec, ModelSpec
from lima.spec.codec import run_id
from lima.store.storage import Storage
from lima_jobs.run import run_stage
from tests.helpers.promised import promised
from tests.unit.inputs.test_submit_inputs import write

PREFERENCE = JudgeSpec(rubric="preference", baselines=("other-model",))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LIMA_STOP_FILE", str(tmp_path / "stop"))
    monkeypatch.chdir(tmp_path)
    write("first")
    (tmp_path / "ours.jsonl").write_bytes((tmp_path / "r.jsonl").read_bytes())


def study() -> tuple[CellSpec, CellSpec]:
    """Return a cell whose responses are compared with those of another arm, and that arm."""
    prompts = DataSpec("p.jsonl")
    ours = GenerateSpec(prompts, ModelSpec("responses:ours.jsonl"))
    other = GenerateSpec(prompts, ModelSpec("responses:r.jsonl"))
    return (
        CellSpec("study", "ours", generate=ours, judge=PREFERENCE),
        CellSpec("study", "other-model", generate=other),
    )


def test_other_responses_of_a_baseline_are_another_comparison_with_those() -> None:
    ours, other = promised(study())
    assert ours.judge
    assert ours.judge.baseline_runs == (run_id(other, "generate"),)
    storage = Storage("out")
    run_stage(other, "generate", storage)
    Path("r.jsonl").write_text(Path("r.jsonl").read_text().replace("Re:", "Again:"))
    now, other_now = promised(study())
    assert run_id(now, "generate") == run_id(ours, "generate")
    assert run_id(now) != run_id(ours)
    for cell in (now, other_now):  # the arm of the baseline has two runs then
        run_stage(cell, "generate", storage)
    (item, *_) = plan_pairs(now, storage)
    assert item.second
    assert {item.first.text.split()[0], item.second.text.split()[0]} == {"Re:", "Again:"}


def test_a_baseline_of_another_study_is_looked_up_in_the_storage() -> None:
    ours, other = study()
    (other,) = promised([other])
    run_stage(other, "generate", Storage("out"))
    (found,) = prepare([ours], Contents(), storage=Storage("out")).cells
    assert found.judge
    assert found.judge.baseline_runs == (run_id(other),)
    (unknown,) = promised([ours])
    assert unknown.judge
    assert unknown.judge.baseline_runs is None


def test_another_wording_than_was_promised_is_refused() -> None:
    cell = replace(study()[0], judge=JudgeSpec())
    (named,) = promised([cell])
    run_stage(named, "generate", Storage("out"))
    assert len(plan_tasks(named, Storage("out"))) == 3
    assert named.judge
    other = replace(named, judge=replace(named.judge, wording=f"sha256:{'0' * 64}"))
    assert run_id(other) != run_id(named)
    with pytest.raises(ChangedInputError, match="the wording of likert-6: has changed"):
        plan_tasks(other, Storage("out"))
