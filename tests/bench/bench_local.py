"""`submit --local` of the tiny study: where the time goes until the first step, and to the end.

pytest -m bench -s tests/bench/bench_local.py
"""

import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lima.recipes.registry import load_study
from lima.spec import CellSpec, Stage, stage_cell
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS, RUNS, STEPS, Table

LIMA = str(Path(sys.executable).with_name("lima-k8s"))
ONE = ("--arm", "howto-32", "--seed", "0")


def rows(storage: Storage, cell: CellSpec, stage: Stage, table: Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        RunTable(storage, table, stage_cell(cell, stage)).read().to_pylist()
    )
    return found


def moments(storage: Storage, cell: CellSpec) -> dict[str, datetime]:
    """Return when what happened, in order, by what the tables say."""
    told: dict[str, datetime] = {}
    for stage in ("base", "train"):
        told[f"{stage}: begun"] = rows(storage, cell, stage, RUNS)[0]["created_at"]
        events = rows(storage, cell, stage, ATTEMPTS)
        told[f"{stage}: workers there"] = min(r["at"] for r in events)
        steps = [r["at"] for r in rows(storage, cell, stage, STEPS)]
        told[f"{stage}: first step"] = min(steps)
        told[f"{stage}: last step"] = max(steps)
    ended = [r["at"] for r in rows(storage, cell, "generate", ATTEMPTS) if r["event"] == "ended"]
    return {**told, "generate: done": max(ended)}


@pytest.mark.bench
def test_parts_of_a_local_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = Storage(str(tmp_path / "study"))
    began = datetime.now(UTC)
    words = ["submit", "ablation", "--local", "--recipe", "tiny", *ONE, "--storage", storage.uri]
    subprocess.run([LIMA, *words], stderr=subprocess.DEVNULL, check=True)
    ended = datetime.now(UTC)
    [cell] = load_study("tiny", arms=["howto-32"], seeds=[0])
    told = {"command": began, **moments(storage, cell), "the command ends": ended}
    with capsys.disabled():
        print()
        for (_, before), (name, after) in pairwise(told.items()):
            print(f"{(after - before).total_seconds():6.1f} s  {name}")
        first = (told["base: first step"] - began).total_seconds()
        print(f"{first:6.1f} s  to the first step, {(ended - began).total_seconds():.1f} s in all")
    assert list(told.values()) == sorted(told.values())
