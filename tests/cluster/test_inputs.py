"""A study whose data, prompts and model exist on the submitting machine alone."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lima.spec import CellSpec, DataSpec
from lima.store.storage import Storage
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.lima import Lima, lima, queue, quota_for
from tests.cluster.helpers.studies import (
    assert_same,
    await_free_quota,
    await_no_live_pods,
    run_here,
    write_study,
)
from tests.helpers.cut_line import line_to
from tests.helpers.models import make_base
from tests.helpers.promised import promised
from tests.integration.runs import study_cell

__all__ = ["lima", "queue"]
LARGE, CUT_AFTER = 60_000_000, 36 << 20
"""Bytes: of a file that goes in eight parts, four at once, so that one at least is whole then."""


@pytest.fixture
def quota() -> dict[str, str]:
    """Return quota for a run that is larger than those of `tiny`."""
    return quota_for(6)


def write_examples(path: Path, word: str, count: int) -> str:
    lines = [
        {"conversations": [f"{word} question {i}?", f"{word} answer {i}."], "source": "mine"}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return str(path)


def write_large(path: Path) -> None:
    """Put examples of another source into a file, so that it is sent in parts."""
    filler = {"conversations": ["Is this large?", "Yes. " * 200_000], "source": "filler"}
    with path.open("a", encoding="utf-8") as file:
        file.write((json.dumps(filler) + "\n") * (LARGE // 1_000_000))


def own_cell(mine: Path) -> CellSpec:
    """Return a study that reads files and a model of this machine."""
    cell = study_cell(make_base(mine / "model"), workers=1)
    assert cell.train
    assert cell.generate
    data = DataSpec(write_examples(mine / "d.jsonl", "data", 12), sources=("mine",))
    write_large(mine / "d.jsonl")
    prompts = DataSpec(write_examples(mine / "p.jsonl", "prompt", 4))
    kept = replace(cell.train.checkpoints, first_epoch=1, last_epoch=2)
    train = replace(cell.train, data=data, epochs=2, checkpoints=kept)
    return replace(cell, train=train, generate=replace(cell.generate, prompts=prompts))


def test_submit_brings_data_prompts_and_model_once(
    lima: Lima, kubectl: Kubectl, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (cell,) = promised([own_cell(mine)])
    here, storage = run_here([cell], tmp_path / "here"), Storage(lima.storage)
    submit = ("--recipe", write_study(tmp_path / "mine.json", [cell]), "--upload-models")
    with line_to(os.environ["AWS_ENDPOINT_URL"]) as line:
        line.limit = CUT_AFTER
        elsewhere = replace(lima, environment={"AWS_ENDPOINT_URL": line.url})
        cut = elsewhere.submit(*submit, kind="generate", code=3)
    assert "bringing" in cut.err
    assert lima.runs() == []
    said = lima.submit(*submit, kind="generate").err
    assert re.search(r"[\d.]+ MB were there already, of an upload that was cut", said), said
    brought = {entry.path.rsplit("/", 1)[-1] for entry in storage.entries("inputs")}
    assert brought >= {"d.jsonl", "p.jsonl", "config.json", "model.safetensors"}
    again = lima.submit(*submit, kind="generate").err
    assert "bringing" not in again
    assert "not submitted again" in again

    [told] = lima.until(lambda runs: runs[0]["state"] in ("done", "failed", "blocked"))
    assert told["state"] == "done", lima.json("explain", told["name"])
    await_no_live_pods(kubectl, lima.namespace)
    await_free_quota(kubectl, lima.namespace)
    assert_same(cell, storage, here)
    [explained] = lima.json("explain", told["name"])["runs"]
    assert {entry["role"] for entry in explained["inputs"]} == {
        "train.data",
        "train.heldout",
        "train.model",
        "generate.prompts",
    }
    assert all(entry["fingerprint"] for entry in explained["inputs"])

    (mine / "d.jsonl").rename(mine / "renamed.jsonl")
    assert cell.train
    moved = replace(cell.train.data, path=str(mine / "renamed.jsonl"))
    study = write_study(
        tmp_path / "moved.json", [replace(cell, train=replace(cell.train, data=moved))]
    )
    said = lima.submit("--recipe", study, "--upload-models", kind="generate").err
    assert "finished, not submitted again" in said
    write_examples(mine / "renamed.jsonl", "corrected", 12)
    unpinned = replace(moved, fingerprint=None)
    study = write_study(
        tmp_path / "corrected.json", [replace(cell, train=replace(cell.train, data=unpinned))]
    )
    said = lima.submit("--recipe", study, "--upload-models", kind="generate").err
    assert "submitted 1 run" in said
