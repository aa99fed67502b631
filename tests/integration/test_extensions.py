"""An engine, a rubric, a kind of source and a batch builder of a package that is not ours, in a job
of its own: as docs/extending.md has it."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.spec import (
    CellSpec,
    CheckpointSpec,
    ComputeSpec,
    DataSpec,
    GenerateSpec,
    JudgeSpec,
    ModelSpec,
    ShapeSpec,
    TrainSpec,
)
from lima.spec.codec import run_id
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec
from lima.store.scan import Tables
from lima.store.tables import EXAMPLES, GENERATIONS, JUDGMENTS
from tests.helpers.judge_server import Reply, Request, running
from tests.integration.runs import Job

PACKAGE = '''
from hashlib import sha256
from transformers import PreTrainedTokenizerFast

from lima.curation.candidates.candidate import Candidate
from lima.curation.sources.kinds import add_source
from lima.curation.sources.source_kind import SourceKind
from lima.endpoints.reading import Reading
from lima.generation.engine import SampledResponse
from lima.generation.engines import ENGINES, LoadedEngine
from lima.judging.rubric import Rubric
from lima.judging.rubrics import RUBRICS
from lima.model.end_of_turn import EOS, trained_bpe
from lima.store.files import files


class Echo:
    """Responds with the prompt's own tokens."""

    def generate(self, requests):
        return [SampledResponse(list(r.token_ids[:-1]), "eot", 0.0) for r in requests]


def load(spec, model, seed, storage):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained_bpe(["What is a note? Text."], 300), eos_token=EOS
    )
    return LoadedEngine(Echo(), tokenizer, tokenizer.eos_token_id)


ENGINES.add("toy.echo", load)

WORDING = "From 0 to 10, how good is {response!r} to {prompt!r}? Write the number alone."


def ask(prompt, responses):
    return WORDING.format(prompt=prompt[-1], response=responses[0])


def read(verdict):
    return Reading(score=float(verdict)) if verdict.strip().isdecimal() else None


RUBRICS.add("toy.tens", Rubric(
    "toy.tens", sha256(WORDING.encode()).hexdigest(), ask, read, "a number", scale=(0, 10)
))


def notes(paths, source, spec, damage):
    for path in files(paths, (".note",)):
        with open(path, encoding="utf-8") as file:
            prompt, response = file.read().split("\\n", 1)
        yield Candidate("toy", path.rsplit("/", 1)[-1], (prompt, response.strip()))


add_source(SourceKind("toy.notes", (".note",), notes))
'''
BUILDER = '''
import logging

from lima.training.batches import BATCH_BUILDERS, PaddedBatches


class Reversed(PaddedBatches):
    """Each part's examples from the last to the first."""

    def _parts(self, indices, rank, world):
        logging.getLogger("lima.toy").info("%d examples from the last to the first", len(indices))
        return super()._parts(indices[::-1], rank, world)


BATCH_BUILDERS.add("toy.reversed", Reversed)
'''
CPU = ComputeSpec(device="cpu", precision="fp32")
CODE = "import sys; from lima_k8s.main import run; sys.exit(run(sys.argv[1:]))"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the package where processes that are started find it; return the folder."""
    site, info = tmp_path / "site", tmp_path / "site" / "toy-1.dist-info"
    info.mkdir(parents=True)
    (site / "toy.py").write_text(PACKAGE, "utf-8")
    (site / "toy_batches.py").write_text(BUILDER, "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n", "utf-8")
    points = "[lima.extensions]\ntoy = toy\ntoy_batches = toy_batches\n"
    (info / "entry_points.txt").write_text(points, "utf-8")
    others = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), others))))
    return site


def cell(folder: Path, url: str, **judge: Any) -> CellSpec:
    source = SourceSpec("toy.notes", (str(folder / "notes"),))
    curate = CurateSpec((source,), (ArmSpec("notes", (PartSpec("toy.notes"),)),))
    compute = replace(CPU, batching="toy.reversed")
    model = ModelSpec("scratch", shape=ShapeSpec(300, 16, 1, 2, 32, 64))
    train = TrainSpec(
        model,
        DataSpec("authored:howto", count=4),
        epochs=1,
        batch_size=4,
        max_length=32,
        checkpoints=CheckpointSpec(first_epoch=1, last_epoch=1),
        compute=compute,
    )
    generate = GenerateSpec(DataSpec("authored:dialogue"), compute=CPU, engine="toy.echo")
    spec = JudgeSpec(base_url=url, rubric="toy.tens", attempts=1, **judge)
    return CellSpec("toys", "echo", curate=curate, train=train, generate=generate, judge=spec)


def tens(request: Request) -> Reply:
    """Give seven of ten, and to the first no number."""
    return Reply("none" if request.number == 1 else "7")


@pytest.mark.slow
def test_a_package_of_others_adds_to_a_study(installed: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("one", "two"):
        (notes / f"{name}.note").write_text(f"What is note {name}?\nThe text of {name}.", "utf-8")
    (notes / "passed-over.txt").write_text("no note", "utf-8")
    uri = str(tmp_path / "study")
    with running(tens) as server:
        study = cell(tmp_path, server.base_url)
        job = Job([study], uri, tmp_path / "job")
        job.finish()
        assert "From 0 to 10, how good is" in server.requests[0].text
    assert "4 examples from the last to the first" in job.log.read_text("utf-8")
    tables = Tables(job.storage)
    curated = tables.read(EXAMPLES, ["conversation"])["conversation"].to_pylist()
    assert {tuple(turns or ()) for turns in curated} == {
        ("What is note one?", "The text of one."),
        ("What is note two?", "The text of two."),
    }
    said = tables.read(GENERATIONS, ["prompt", "response"]).to_pylist()
    assert all(row["prompt"][-1] in row["response"] for row in said)
    judged = tables.read(JUDGMENTS, ["rubric", "score", "run_id"]).to_pylist()
    assert {(row["rubric"], row["run_id"]) for row in judged} == {("toy.tens", run_id(study))}
    assert Counter(row["score"] for row in judged) == {7.0: len(judged) - 1, None: 1}

    command = [sys.executable, "-c", CODE, "aggregate", uri, "--by", "arm", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (row,) = json.loads(done.stdout)["rows"]
    count = len(judged)
    assert row["bound_high"] == pytest.approx((7 * (count - 1) + 10) / count)
    assert row["bound_low"] == pytest.approx(7 * (count - 1) / count)
