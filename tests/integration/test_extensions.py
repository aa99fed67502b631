"""An engine, a rubric, a kind of source and a batch builder of a package that is not ours, or of a
file of the study's own, in a job of its own: as docs/extending.md has it."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.inputs.fingerprint import of_bytes
from lima.spec import (
    CellSpec,
    CheckpointSpec,
    ComputeSpec,
    DataSpec,
    ExtensionSpec,
    GenerateSpec,
    JudgeSpec,
    ModelSpec,
    ShapeSpec,
    TrainSpec,
)
from lima.spec.codec import encode, run_id
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import EXAMPLES, GENERATIONS, JUDGMENTS, RUNS
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
SHAPE = ShapeSpec(300, 16, 1, 2, 32, 64)
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
    model = ModelSpec("scratch", shape=SHAPE)
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


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Return a folder of notes, and of a file that is none."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.note").write_text(f"What is note {name}?\nThe text of {name}.", "utf-8")
    (folder / "passed-over.txt").write_text("no note", "utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("installed", "notes")
def test_a_package_of_others_adds_to_a_study(tmp_path: Path) -> None:
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

    done = lima_k8s("aggregate", uri, "--by", "arm", "--format", "json")
    (row,) = json.loads(done.stdout)["rows"]
    count = len(judged)
    assert row["bound_high"] == pytest.approx((7 * (count - 1) + 10) / count)
    assert row["bound_low"] == pytest.approx(7 * (count - 1) / count)


def lima_k8s(*arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own: what it imports stays there."""
    command = [sys.executable, "-c", CODE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.slow
@pytest.mark.usefixtures("notes")
def test_one_file_adds_to_a_study_and_edited_makes_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "toy.py"
    file.write_text(PACKAGE + BUILDER, "utf-8")
    with running(tens) as server:
        study = replace(cell(tmp_path, server.base_url), extensions=(ExtensionSpec("toy.py"),))
        Path("study.json").write_text(json.dumps({"runs": [encode(study)]}), "utf-8")
        submit = ["submit", "ablation", "--recipe", "study.json", "--local", "--storage", "study"]
        submit += ["--extension", "toy.py"]
        lima_k8s(*submit)
        before = runs_of("study")
        assert "examples from the last to the first" in log_of("study")
        assert "finished already" in lima_k8s(*submit).stderr
        file.write_text(file.read_text("utf-8").replace("how good is", "how fine is"), "utf-8")
        said = lima_k8s(*submit).stderr
        assert "toy.py has changed since run " in said
        assert "how fine is" in server.requests[-1].text
    after = runs_of("study")
    assert {stage: len(runs) for stage, runs in after.items()} == dict.fromkeys(before, 2)

    file.unlink()  # what is read of a storage does not need it
    (run, _) = after["judge"]
    shown = json.loads(lima_k8s("show", run, "--storage", "study", "--format", "json").stdout)
    (kept,) = shown["runs"][0]["extensions"]
    assert kept["path"].endswith(f"/inputs/{kept['fingerprint'].removeprefix('sha256:')}/toy.py")
    assert run in shown["run_ids"][0]["run"]
    rows = json.loads(lima_k8s("aggregate", "study", "--format", "json").stdout)["rows"]
    assert {row["bound_high"] > 6 for row in rows} == {True}  # of ten, as the run tells
    for command in ("responses", "explain", "verify"):
        place = [run, "--storage", "study"] if command in ("explain", "verify") else ["study"]
        lima_k8s(command, *place)
    lima_k8s("report", "study", "-o", "report.html")
    Path("again.json").write_text(json.dumps(shown), "utf-8")
    again = [*submit[:3], "again.json", *submit[4:-1], kept["path"]]
    assert "finished already" in lima_k8s(*again).stderr  # from the copy of the file


def runs_of(uri: str) -> dict[str, list[str]]:
    """Return the runs of a storage by stage."""
    found: dict[str, list[str]] = {}
    for row in Tables(Storage(uri)).read(RUNS, ["run_id", "stage"]).to_pylist():
        found.setdefault(row["stage"], []).append(row["run_id"])
    return found


def log_of(uri: str) -> str:
    """Return what the jobs of a local storage logged."""
    return "".join(file.read_text("utf-8") for file in Path(uri).glob("logs/*.log"))


def test_a_job_runs_nothing_of_a_file_that_is_not_the_promised_one(tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "toy.py"
    file.write_text(PACKAGE, "utf-8")
    other = replace(cell(tmp_path, "http://127.0.0.1:9/v1"), curate=None, train=None)
    assert other.generate
    generate = replace(other.generate, model=ModelSpec("scratch", shape=SHAPE))
    promised = ExtensionSpec(str(file), of_bytes(file.read_bytes()))
    study = replace(other, generate=generate, extensions=(promised,))
    file.write_text(f"open({str(mark)!r}, 'w').close()\n{PACKAGE}", "utf-8")
    job = Job([study], str(tmp_path / "study"), tmp_path / "job")
    assert job.process.wait() == 2
    said = job.log.read_text("utf-8")
    assert f"{file}: has changed since this run was submitted" in said
    assert "Traceback" not in said
    assert not mark.exists()
