"""The first hash of a 1 GB file beside `sha256sum`, and what `submit` adds for a remembered file.

pytest tests/bench/bench_fingerprints.py -s
"""

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lima.inputs.content import Contents
from lima.inputs.memory import SETTLED_S, Memory
from lima.inputs.places import Place
from lima.spec import CellSpec, DataSpec, GenerateSpec
from lima.store.storage import Storage
from lima_k8s.study.inputs import keep_copies, look, say_changes

SIZE, BLOCK = 1 << 30, 1 << 24
GOAL_RATIO = 1.25
"""Of sha256sum's time: what the weather of the machine may add to as much work."""
GOAL_MB = 64
GOAL_REMEMBERED_S = 0.05
ROUNDS, FILES = 3, 100


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "dump.7z"
    with path.open("wb") as stream:
        for _ in range(SIZE // BLOCK):
            stream.write(os.urandom(BLOCK))
    return path


def place(path: Path) -> Place:
    return Place("train", "train.data", "data", (str(path),), None)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@pytest.mark.bench
def test_a_gigabyte(large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pairs = []
    for number in range(ROUNDS):  # side by side, so that both see the same load
        contents = Contents(memory=Memory(tmp_path / f"{number}.sqlite"))
        ours = seconds(lambda c=contents: c.of(place(large)))  # type: ignore[misc]
        pairs.append(
            (
                ours,
                seconds(
                    lambda: subprocess.run(
                        ["sha256sum", large], check=True, stdout=subprocess.DEVNULL
                    )
                ),
            )
        )
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    ours, peer = (min(column) for column in zip(*pairs, strict=True))
    with capsys.disabled():
        print(
            f"\n1 GiB: {ours:.2f} s, sha256sum {peer:.2f} s, ratio {ours / peer:.2f} "
            f"(goal: at most {GOAL_RATIO:g}); memory grew by {grown:.0f} MB"
        )
    assert ours / peer <= GOAL_RATIO
    assert grown <= GOAL_MB


@pytest.mark.bench
def test_a_study_whose_inputs_were_hashed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `submit` does with inputs: it names the study by them and keeps copies of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = [tmp_path / f"{number}.jsonl" for number in range(FILES)]
    for path in paths:
        path.write_bytes(os.urandom(1 << 16))
    cells = [CellSpec("e", path.stem, generate=GenerateSpec(DataSpec(str(path)))) for path in paths]
    time.sleep(SETTLED_S)  # what was just written is not remembered
    storage = Storage(str(tmp_path / "out"))

    def prepare_study() -> tuple[CellSpec, ...]:
        prepared = look(cells)
        say_changes(storage, prepared.cells)
        keep_copies(storage, prepared)
        return prepared.cells

    named = prepare_study()
    spent = [seconds(prepare_study) / FILES for _ in range(ROUNDS)]
    each = statistics.median(spent)
    with capsys.disabled():
        print(
            f"\nsubmit, each file that was hashed before: {1000 * each:.2f} ms, ratio "
            f"{each / GOAL_REMEMBERED_S:.3f} of {1000 * GOAL_REMEMBERED_S:g} ms (goal: at most 1)"
        )
    assert prepare_study() == named
    assert each <= GOAL_REMEMBERED_S
