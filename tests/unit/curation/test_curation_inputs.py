"""Curation that is killed and finds other inputs: refused, restored it ends with the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from lima.curation.arms.picks import Pick, dump_picks
from lima.curation.stage import Curation
from lima.errors import ChangedInputError
from lima.inputs.content import Contents
from lima.preparing.prepare import prepare
from lima.spec.codec import canonical_json, sha256_key
from lima.spec.curate import ArmSpec, AssemblySpec, CurateSpec, PartSpec, SourceSpec
from lima.store.storage import Storage
from tests.conftest import ROOT
from tests.helpers.curation.curating import cell, contents, curate, do_unit
from tests.helpers.curation.dumps import document, question
from tests.helpers.curation.sites import STEM, stem_part, write_sites

KILLED = """
import os, signal, sys
from pathlib import Path
import msgspec
from lima.spec.curate import CurateSpec
from tests.helpers.curation.curating import curate

def one_alone(units):
    yield units[0]
    os.kill(os.getpid(), signal.SIGKILL)

curate(msgspec.json.decode(sys.argv[1], type=CurateSpec), Path(sys.argv[2]), one_alone)
"""
"""Is killed when the first unit is written."""
STORIES = [["Tell story one.", "It was one."], ["Tell story two.", "It was two."]]


def _dumps(path: Path, word: str) -> None:
    write_sites(path)
    if word != "first":
        posts = path / "math.stackexchange.com" / "Posts.xml"
        posts.write_bytes(document([question(1, word)]))


def _stories(path: Path, word: str) -> None:
    told = [[prompt, answer.replace("It", word)] for prompt, answer in STORIES]
    path.write_text("".join(canonical_json({"conversations": pair}) + "\n" for pair in told))


def _picks(path: Path, word: str) -> None:
    text = sha256_key([STORIES[0][0], STORIES[0][1].replace("It", "first")])
    kept = Pick("stories", "stories:0", "keep" if word == "first" else "drop", text)
    path.write_bytes(dump_picks([kept]))


def _patches(path: Path, word: str) -> None:
    patch = {"source": "stories", "source_id": "stories:0", "utterance": 1, "find": "one"}
    path.write_text(canonical_json(patch | {"replace": word}))


def _sites(path: Path, word: str) -> None:
    stem = ", ".join(f"{site}.stackexchange.com" for site in STEM)
    path.write_text(f"stem: [{stem}]\nother: [{word}.stackexchange.com]\ndropped: []\n")


def _tokenizer(path: Path, word: str) -> None:
    Tokenizer(models.WordLevel({"[UNK]": 0, word: 1}, unk_token="[UNK]")).save(str(path))


INPUTS: dict[str, Callable[[Path, str], None]] = {
    "dumps": _dumps,
    "stories.jsonl": _stories,
    "sites.yaml": _sites,
    "picks.jsonl": _picks,
    "patches.jsonl": _patches,
    "tokenizer.json": _tokenizer,
}
READ = ("dumps", "stories.jsonl", "sites.yaml")
"""What units read; the others decide what arms take, or what is said of them."""


class Inputs:
    """All files of a curation, here or in a bucket."""

    def __init__(self, folder: Path, bucket: Storage | None) -> None:
        self.folder, self.bucket = folder, bucket
        for name in INPUTS:
            self.write(name, "first")

    def write(self, name: str, word: str) -> None:
        path = self.folder / name
        INPUTS[name](path, word)
        if self.bucket and path.is_dir():
            self.bucket.upload_folder(path, name)
        elif self.bucket:
            self.bucket.upload(path, name)

    def spec(self) -> CurateSpec:
        """Return the curation as `submit` names it."""
        root = self.bucket.uri if self.bucket else str(self.folder)
        stories = SourceSpec(
            "examples",
            ("stories.jsonl",),
            pool="stories",
            picks="picks.jsonl",
            patches="patches.jsonl",
        )
        arms = (ArmSpec("stem", (stem_part(9),)), ArmSpec("told", (PartSpec("stories"),)))
        spec = CurateSpec(
            (SourceSpec("stackexchange", ("dumps",)), stories),
            arms,
            root=root,
            sites="sites.yaml",
            assembly=AssemblySpec(tokenizer="tokenizer.json"),
        )
        (found,) = prepare([cell(spec)], Contents()).cells
        assert found.curate
        return found.curate


@pytest.fixture(params=["here", "bucket"])
def inputs(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Inputs:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    is_here = request.param == "here"
    bucket = None if is_here else Storage(request.getfixturevalue("s3_storage"))
    (tmp_path / "in").mkdir()
    return Inputs(tmp_path / "in", bucket)


def test_what_is_replaced_under_a_killed_run_is_refused_and_restored_it_goes_on(
    inputs: Inputs, tmp_path: Path
) -> None:
    spec, out = inputs.spec(), tmp_path / "out"
    curate(spec, tmp_path / "undisturbed")
    child = [sys.executable, "-c", KILLED, canonical_json(spec), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(child, env=environment, check=False).returncode == -signal.SIGKILL
    begun = contents(out)
    assert begun
    for name in INPUTS:
        inputs.write(name, "another")
        with pytest.raises(ChangedInputError, match=name) as error:
            curate(spec, out)
        assert error.value.exit_code == 2
        assert not (out / "datasets").exists()
        if name in READ:
            assert contents(out) == begun, f"{name}: nothing is read beside it"
        inputs.write(name, "first")
        assert inputs.spec() == spec, "restored, it is the same run"
    curate(spec, out)
    assert contents(out) == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("name", READ[:2])
def test_what_is_replaced_while_a_run_reads_is_refused(
    name: str, inputs: Inputs, tmp_path: Path
) -> None:
    spec = inputs.spec()
    curation = Curation(cell(spec), Storage(str(tmp_path / "out")))
    starts = "math." if name == "dumps" else "stories"
    unit = next(unit for unit in curation.units() if unit.name.startswith(starts))
    inputs.write(name, "another")
    with pytest.raises(ChangedInputError, match="changed since this run began"):
        do_unit(curation, unit)
    assert not curation.is_finished(unit)


def test_moved_and_renamed_it_is_the_same_run_which_reads_nothing_again(
    inputs: Inputs, tmp_path: Path
) -> None:
    spec, out = inputs.spec(), tmp_path / "out"
    curate(spec, out)
    before = contents(out)
    shutil.copytree(inputs.folder, tmp_path / "elsewhere")
    moved = Inputs(tmp_path / "elsewhere", None).spec()
    assert replace(moved, sources=()) != replace(spec, sources=())
    curation = Curation(cell(moved), Storage(str(out)))
    assert curation.done
    assert contents(out) == before
