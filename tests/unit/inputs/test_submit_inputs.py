"""`submit --local` with inputs that are replaced, restored, moved and taken away; real jobs."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lima.errors import ChangedInputError
from lima.inputs.content import Contents
from lima.inputs.places import places
from lima.preparing.prepare import prepare
from lima.spec import CellSpec, DataSpec, GenerateSpec, ModelSpec
from lima.spec.codec import canonical_json, encode, run_id
from lima.store.shards import RunTable, read_parquet
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS, INPUTS
from lima_jobs.run import run_stage
from lima_k8s.main import run
from tests.helpers.processes.killed import CHILD


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LIMA_STOP_FILE", str(tmp_path / "stop"))
    monkeypatch.chdir(tmp_path)
    write("first")


def write(word: str, count: int = 3, folder: Path = Path()) -> None:
    """Write prompts and another model's responses to them."""
    prompts = [f"{word} question {i}?" for i in range(count)]
    _lines(folder / "p.jsonl", [{"conversations": [p], "source": "x"} for p in prompts])
    _lines(folder / "r.jsonl", [{"prompt": p, "response": f"Re: {p}"} for p in prompts])


def _lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def cell(prompts: str = "p.jsonl", responses: str = "r.jsonl") -> CellSpec:
    generate = GenerateSpec(DataSpec(prompts), ModelSpec(f"responses:{responses}"))
    return CellSpec("study", "other-model", generate=generate)


def submit(study: CellSpec, *more: str) -> int:
    Path("study.json").write_text(json.dumps({"runs": [encode(study)]}))
    arguments = ["submit", "generate", "--local", "--recipe", "study.json", "--storage", "out"]
    return run([*arguments, *more])


def responses(runs: int = 1) -> list[str]:
    storage = Storage("out")
    found = [entry.path for entry in storage.entries(GENERATIONS.name)]
    assert len({path.split("/")[2] for path in found}) == runs
    return sorted(str(r) for p in found for r in read_parquet(storage, p)["response"].to_pylist())


def test_corrected_data_is_a_new_run_and_not_finished_already(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert submit(cell()) == 0
    before = responses()
    write("second")
    assert submit(cell()) == 0
    said = capsys.readouterr().err
    assert "p.jsonl has changed since run " in said
    assert "(3 of 3 examples differ): a new run" in said
    assert len(responses(runs=2)) == 2 * len(before)


def test_restored_data_is_the_finished_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(cell()) == 0
    for word in ("second", "first"):
        write(word)
        assert submit(cell(), "--dry-run") == 0
        said = capsys.readouterr().out
        assert ("finished already" in said) == (word == "first")
        assert ("p.jsonl has changed since run" in said) == (word == "second")


def test_moved_and_renamed_data_is_computed_once(tmp_path: Path) -> None:
    assert submit(cell()) == 0
    written = {entry.path: entry.modified for entry in Storage("out").entries("generations")}
    (tmp_path / "elsewhere").mkdir()
    shutil.move("p.jsonl", "elsewhere/prompts.jsonl")
    shutil.move("r.jsonl", "elsewhere/answers.jsonl")
    assert submit(cell("elsewhere/prompts.jsonl", "elsewhere/answers.jsonl")) == 0
    now = {entry.path: entry.modified for entry in Storage("out").entries("generations")}
    assert now == written


def test_a_dry_run_says_of_each_stage_what_it_would_do_and_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def told() -> dict[str, Any]:
        assert submit(cell(), "--dry-run", "--format", "json") == 0
        (run_,) = json.loads(capsys.readouterr().out)["runs"]
        (stage,) = run_["stages"]
        return dict(stage)

    assert (told()["state"], told()["why"]) == ("new", "nothing of it is in the storage")
    _lines(Path("r.jsonl"), [{"prompt": "another?", "response": "Yes."}])
    assert submit(cell()) == 2
    capsys.readouterr()
    assert told()["state"] == "goes on"
    assert "failed, DataError: responses:r.jsonl: 1 responses, but none" in told()["why"]
    write("first")
    assert submit(cell()) == 0
    capsys.readouterr()
    assert told()["state"] == "finished"


def test_what_changes_under_a_job_is_refused_with_exit_code_2(tmp_path: Path) -> None:
    (promised,) = prepare([cell()], Contents()).cells
    write("second")
    with pytest.raises(ChangedInputError, match=r"(?s)p\.jsonl.*sha256:.*sha256:.*again") as error:
        run_stage(promised, "generate", Storage("out"))
    assert error.value.exit_code == 2
    assert not Storage("out").entries(GENERATIONS.name)


KILLED = """
import os, signal
from lima.generation import baseline

baseline._write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
"""Is killed when the responses of a file were read, before they are written."""


@pytest.mark.parametrize("name", ["p.jsonl", "r.jsonl"])
def test_what_is_replaced_under_a_killed_run_is_refused_and_restored_it_goes_on(name: str) -> None:
    (promised,), storage = prepare([cell()], Contents()).cells, Storage("out")
    arguments = [canonical_json(promised), "generate", storage.uri]
    child = subprocess.run([sys.executable, "-c", KILLED + CHILD, *arguments], check=False)
    assert child.returncode == -signal.SIGKILL
    before = Path(name).read_bytes()
    Path(name).write_bytes(before.replace(b"first", b"other"))
    with pytest.raises(ChangedInputError, match=name):
        run_stage(promised, "generate", storage)
    assert not storage.entries(GENERATIONS.name)
    Path(name).write_bytes(before)
    run_stage(promised, "generate", storage)
    assert responses() == [f"Re: first question {i}?" for i in range(3)]


def test_a_run_that_is_named_by_paths_keeps_to_what_it_began_with() -> None:
    storage = Storage("out")
    run_stage(cell(), "generate", storage)
    write("second")
    with pytest.raises(ChangedInputError, match=r"p\.jsonl: has changed"):
        run_stage(cell(), "generate", storage)
    write("first")
    run_stage(cell(), "generate", storage)
    assert len(responses()) == 3


def test_the_table_inputs_says_what_was_read_where() -> None:
    assert submit(cell()) == 0
    (promised,) = prepare([cell()], Contents()).cells
    rows = RunTable(Storage("out"), INPUTS, promised).read().to_pylist()
    assert [(r["role"], r["name"], r["rows"], r["read_at"]) for r in rows] == [
        ("generate.prompts", "p.jsonl", 3, "p.jsonl"),
        ("generate.model", "r.jsonl", None, "r.jsonl"),
    ]
    assert [row["fingerprint"] for row in rows] == [p.fingerprint for p in places(promised)]
    assert [row["bytes"] for row in rows] == [
        Path(name).stat().st_size for name in ("p.jsonl", "r.jsonl")
    ]


def test_a_run_of_an_earlier_version_is_told_and_taken_only_when_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = _of_before()
    assert submit(cell(), "--dry-run") == 0
    said = capsys.readouterr().out
    assert "finished already" not in said
    assert "from before fingerprints (fingerprint unknown)" in said
    assert submit(cell(), "--adopt", "--dry-run") == 0
    assert f"{run_id(cell())}  other-model seed 0  finished already" in capsys.readouterr().out
    assert submit(cell(), "--dry-run") == 0, "it was adopted"
    assert "finished already" in capsys.readouterr().out
    write("second")
    assert submit(cell(), "--dry-run") == 0
    assert "finished already" not in capsys.readouterr().out
    assert len(responses()) == 3
    assert storage.exists(RunTable(storage, INPUTS, cell()).path("inputs"))


def test_a_run_that_read_something_else_is_not_adopted(capsys: pytest.CaptureFixture[str]) -> None:
    _of_before()
    write("second")
    assert submit(cell(), "--adopt") == 2
    assert "3 of its prompts are not among those that are there now" in capsys.readouterr().err


def _of_before() -> Storage:
    """Return a storage as a version without fingerprints left it."""
    from lima.runs.done import mark_done

    storage = Storage("out")
    run_stage(cell(), "generate", storage)
    mark_done(storage, cell())
    storage.delete_tree(INPUTS.name)
    return storage


def test_a_study_that_names_its_inputs_is_held_to_them(capsys: pytest.CaptureFixture[str]) -> None:
    (promised,) = prepare([cell()], Contents()).cells
    write("second")
    assert submit(promised) == 2
    assert "p.jsonl is not what this study was written for" in capsys.readouterr().err


def test_copies_of_small_inputs_lie_in_storage() -> None:
    assert submit(cell()) == 0
    kept = [e.path for e in Storage("out").entries("inputs") if e.path.endswith(".jsonl")]
    assert sorted(path.rsplit("/", 1)[-1] for path in kept) == ["p.jsonl", "r.jsonl"]
    for path in kept:
        assert Storage("out").read(path) == Path(path.rsplit("/", 1)[-1]).read_bytes()
