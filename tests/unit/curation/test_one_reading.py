"""Runs of curation that differ in picks alone: one reading, found from each of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lima.common.clock import now
from lima.curation.arms.picks import Pick, dump_picks
from lima.curation.trace import CurationRun
from lima.evaluation.paper.from_curation import read_curated
from lima.spec import CellSpec
from lima.spec.codec import canonical_json, encode
from lima.spec.curate import ArmSpec
from lima.store.scan import Tables
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import RUNS
from tests.helpers.curation.curating import cell, curate
from tests.helpers.curation.sites import STEM, inputs, stem_part, stem_spec
from tests.helpers.promised import promised

__all__ = ["inputs"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def begun(inputs: Path, storage: Storage, picks: Path) -> CellSpec:
    """Run curation with the picks as they are now."""
    spec = stem_spec(inputs, ArmSpec("small", (stem_part(9),), exact=False))
    sources = tuple(replace(source, picks=str(picks)) for source in spec.sources)
    (study,) = promised([cell(replace(spec, sources=sources))])
    assert study.curate
    curate(study.curate, Path(storage.uri))
    row = {"stage": "curate", "spec": canonical_json(encode(study)), "versions": "{}"}
    RunTable(storage, RUNS, study).write("run", [{**row, "created_at": now()}])
    return study


def test_other_picks_read_nothing_again_and_the_latest_run_is_looked_up(
    inputs: Path, tmp_path: Path
) -> None:
    storage, picks = Storage(str(tmp_path / "out")), tmp_path / "picks.jsonl"
    begun(inputs, storage, picks)
    read = {entry.path: entry.modified for entry in storage.entries("candidates")}
    picks.write_bytes(dump_picks([Pick("stackexchange/ai", "1/200001", "keep", "x")]))
    second = begun(inputs, storage, picks)
    assert {entry.path: entry.modified for entry in storage.entries("candidates")} == read
    found = CurationRun(storage)
    assert found.cell == second
    assert found.store.records()
    assert len({path.split("/")[1] for path in _datasets(storage)}) == 2
    counted = read_curated(Tables(storage), ())
    assert {sum(pools.values()) for pools in counted.exchanges.values()} == {len(STEM)}
    assert len(counted.exchanges) == 2


def _datasets(storage: Storage) -> list[str]:
    return [entry.path for entry in storage.entries("datasets")]


def test_a_summary_belongs_to_its_run(inputs: Path, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "out"))
    begun(inputs, storage, tmp_path / "picks.jsonl")
    (path,) = [path for path in _datasets(storage) if path.endswith("summary.json")]
    assert f"run_id={json.loads(storage.read(path))['run']}" in path
