"""Where rows come from: inputs and versions, in `aggregate`, in the report and in a card."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import lima.runs.ledger
from lima.curation.stage import Curation
from lima.evaluation.aggregate.table import aggregate_rows
from lima.evaluation.report.page import render_report
from lima.inputs.fingerprint import short
from lima.inputs.places import places
from lima.runs.inputs_record import record_inputs
from lima.spec import CellSpec
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS
from lima_jobs.run import run_stage
from tests.helpers.promised import promised
from tests.unit.inputs.test_submit_inputs import cell, write


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LIMA_STOP_FILE", str(tmp_path / "stop"))
    monkeypatch.setenv("LIMA_IMAGE", "registry/lima:1")
    monkeypatch.chdir(tmp_path)
    write("first")


def generate(seed: int = 0) -> CellSpec:
    (study,) = promised([replace(cell(), seed=seed)])
    run_stage(study, "generate", Storage("out"))
    return study


def notes() -> list[str]:
    said: list[str] = []
    aggregate_rows(Storage("out"), ["arm"], note=said.append)
    return said


def test_an_attempt_names_versions_and_image() -> None:
    rows = RunTable(Storage("out"), ATTEMPTS, generate()).read().to_pylist()
    assert {row["image"] for row in rows} == {"registry/lima:1"}
    assert all({"lima-k8s", "torch", "transformers"} <= {*json.loads(r["versions"])} for r in rows)
    assert notes() == []


def test_rows_of_one_arm_from_different_versions_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, version in enumerate(("2.14", "2.15")):
        monkeypatch.setattr(lima.runs.ledger, "versions", lambda v=version: {"torch": v})
        generate(seed)
    told = "arm 'other-model': rows come from different versions: torch 2.14 and 2.15"
    assert notes() == [told]
    assert told in render_report(Storage("out"), note=lambda _: None).replace("&#39;", "'")


def test_rows_of_one_arm_from_different_inputs_are_told() -> None:
    generate(0)
    write("second")
    generate(1)
    (note,) = notes()
    assert "different settings are merged" in note
    assert "generate.prompts.fingerprint: sha256:" in note


def test_the_same_content_in_another_place_is_no_difference() -> None:
    generate(0)
    Path("elsewhere").mkdir()
    write("first", folder=Path("elsewhere"))
    (study,) = promised([replace(cell("elsewhere/p.jsonl", "elsewhere/r.jsonl"), seed=1)])
    run_stage(study, "generate", Storage("out"))
    assert notes() == []


def test_runs_without_fingerprints_are_told() -> None:
    run_stage(cell(), "generate", Storage("out"))
    (note,) = notes()
    assert note.startswith("fingerprints unknown: of inputs of ")
    assert "Fingerprints unknown: of inputs of" in render_report(
        Storage("out"), note=lambda _: None
    )


def test_the_report_lists_what_was_read() -> None:
    study = generate()
    page = render_report(Storage("out"), note=pytest.fail)
    for place in places(study):
        assert place.name in page
        assert short(place.fingerprint) in page


def test_the_card_of_a_data_set_lists_what_was_read() -> None:
    articles = [{"title": f"How to bake {i}", "text": f"Bake it {i} times."} for i in range(3)]
    Path("w.jsonl").write_text("".join(json.dumps(article) + "\n" for article in articles))
    arms = (ArmSpec("a", (PartSpec("wikihow", 1),), exact=False),)
    spec = CurateSpec((SourceSpec("wikihow", ("w.jsonl",)),), arms)
    (study,) = promised([CellSpec("e", "curation", curate=spec)])
    storage = Storage("out")
    record_inputs(storage, study, "curate")
    curation = Curation(study, storage)
    for unit in curation.units():
        curation.read_source(unit)
    curation.assemble()
    card = storage.read(f"{curation.datasets}/README.md").decode()
    (place,) = places(study)
    assert "## Inputs" in card
    assert f"| curate.sources[0] | w.jsonl | {Path('w.jsonl').stat().st_size} |" in card
    assert f"`{place.fingerprint}`" in card
