"""A Python file of a study's own: in the pods where the platform team allows it, and only there."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lima.data.examples import load_examples
from lima.spec import CellSpec, DataSpec
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.programs import run
from tests.cluster.helpers.lima import (
    LIMA,
    Lima,
    change_queue,
    lima,
    queue,
    quota_for,
    write_profile,
)
from tests.cluster.helpers.s3 import S3
from tests.cluster.helpers.studies import scratch_cell, write_study

__all__ = ["lima", "queue"]
ENGINE = """
from transformers import PreTrainedTokenizerFast

from lima.generation.engine import SampledResponse
from lima.generation.engines import ENGINES, LoadedEngine
from lima.model.end_of_turn import EOS, trained_bpe


class Echo:
    def generate(self, requests):
        return [SampledResponse(list(r.token_ids[:-1]), "eot", 0.0) for r in requests]


def load(spec, model, seed, storage):
    bpe = trained_bpe(["What is a note? Text."], 300)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=EOS)
    return LoadedEngine(Echo(), tokenizer, tokenizer.eos_token_id)


ENGINES.add("mine.echo", load)
"""
PROMPTS = DataSpec("authored:test", count=6)


@pytest.fixture
def quota() -> dict[str, str]:
    """Return quota for a run of two workers."""
    return quota_for(3)


def cell() -> CellSpec:
    """Return a run that trains a little and then generates with the engine of `mine.py`."""
    trained = scratch_cell(epochs=2)
    assert trained.generate
    return replace(trained, generate=replace(trained.generate, prompts=PROMPTS, engine="mine.echo"))


def test_an_engine_of_ones_own_runs_in_pods_that_may(
    lima: Lima, kubectl: Kubectl, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("mine.py")
    file.write_text(ENGINE, "utf-8")
    submit = ("--recipe", write_study(Path("study.json"), [cell()]), "--extension", "mine.py")
    refused = lima.submit(*submit, kind="generate", code=2)
    assert "cluster.extensions: true" in refused.err
    assert lima.runs() == []
    storage = Storage(lima.storage)
    assert storage.entries("") == []

    allowing = replace(lima, profile=write_profile(tmp_path / "may.yaml", s3, extensions=True))
    allowing.submit(*submit, kind="generate")
    [told] = allowing.until(lambda runs: runs[0]["state"] in ("done", "failed", "blocked"))
    assert told["state"] == "done", lima.json("explain", told["name"])
    assert "finished, not submitted again" in allowing.submit(*submit, kind="generate").err
    [brought] = [entry.path for entry in storage.entries("inputs") if "mine.py" in entry.path]
    show = [LIMA, "show", told["run_id"], "--storage", lima.storage, "--format", "json"]
    [kept] = json.loads(run(show))["runs"][0]["extensions"]
    assert kept["path"].endswith(brought)
    rows = Tables(storage).read(GENERATIONS, ["prompt", "response"]).to_pylist()
    assert {row["prompt"][-1] for row in rows} == {
        example.conversation[0] for example in load_examples(PROMPTS)
    }
    assert all(row["prompt"][-1] in row["response"] for row in rows)

    file.write_text(ENGINE.replace("[:-1]", "[:-2]"), "utf-8")
    change_queue(kubectl, lima.namespace, stop=True)
    assert "submitted 1 run" in allowing.submit(*submit, kind="generate").err
