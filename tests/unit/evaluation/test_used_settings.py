"""A setting is evidence if a run did something with it; specs tell many that nothing read."""

from dataclasses import replace
from pathlib import Path

import pytest

from lima.evaluation.paper.compare import compare_paper
from lima.evaluation.paper.numbers import Compared
from lima.recipes.curation import curate_alpaca, curate_lima
from lima.recipes.paper import lima_65b
from lima.spec import CellSpec, ModelSpec, stage_cell
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from tests.helpers.synthetic import START, write_run, write_shard

DECODING = "setting/lima/generate.decoding."


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


@pytest.fixture
def lima() -> CellSpec:
    (cell,) = lima_65b()
    return cell


def settings(storage: Storage, arm: str | None = None) -> dict[str, Compared]:
    found = compare_paper(storage, named={"lima": arm} if arm else {}, note=pytest.fail)
    return {c.fact.name: c for c in found if c.fact.of[0] == "setting"}


def statuses(found: dict[str, Compared], start: str) -> dict[str, str]:
    names = [name for name in found if name.startswith(start)]
    assert names
    return {name.removeprefix(start): found[name].status for name in names}


def answered_by(cell: CellSpec, arm: str, path: str) -> CellSpec:
    assert cell.generate
    generate = replace(cell.generate, model=ModelSpec(path))
    return replace(cell, arm=arm, train=None, generate=generate, judge=None)


def test_a_stage_that_did_not_run_says_nothing(storage: Storage, lima: CellSpec) -> None:
    write_run(storage, lima, "train", 1000)
    found = settings(storage)
    assert set(statuses(found, "setting/lima/train.").values()) == {"within"}
    assert set(statuses(found, DECODING).values()) == {"no data"}
    write_run(storage, lima, "generate")
    found = settings(storage)
    assert set(statuses(found, DECODING).values()) == {"within"}


def test_responses_from_a_file_were_not_sampled_by_the_defaults(
    storage: Storage, lima: CellSpec
) -> None:
    write_run(storage, answered_by(lima, "theirs", "responses:theirs.jsonl"), "generate")
    found = settings(storage, "theirs")
    assert set(statuses(found, DECODING).values()) == {"no data"}
    why = found[f"{DECODING}top_p"].why
    assert why == "no run that uses generate.decoding.top_p"


def test_what_an_endpoint_did_not_apply(storage: Storage, lima: CellSpec) -> None:
    cell = answered_by(lima, "served", "endpoint:http://localhost/v1#lima")
    write_run(storage, cell, "generate")
    columns = {
        "generation_key": ["k"],
        "prompt_key": "p",
        "prompt_index": 0,
        "sample": 0,
        "source": "s",
        "prompt": [["?"]],
        "response": "!",
        "token_ids": [[]],
        "finish_reason": "eot",
        "seed_address": "0/p/0",
        "model": "lima",
        "at": START,
        "not_applied": [["repetition_penalty"]],
    }
    write_shard(storage, GENERATIONS, stage_cell(cell, "generate"), "a", columns)
    found = statuses(settings(storage, "served"), DECODING)
    assert found.pop("repetition_penalty") == "no data"
    assert set(found.values()) == {"within"}


def test_the_nucleus_of_a_greedy_arm(storage: Storage, lima: CellSpec) -> None:
    assert lima.generate
    decoding = replace(lima.generate.decoding, temperature=0)
    write_run(storage, lima, "train", 1000)
    write_run(
        storage, replace(lima, generate=replace(lima.generate, decoding=decoding)), "generate"
    )
    found = statuses(settings(storage), DECODING)
    assert (found["temperature"], found["top_p"]) == ("outside", "no data")


def test_epochs_that_a_short_training_does_not_reach(storage: Storage, lima: CellSpec) -> None:
    assert lima.train
    write_run(storage, replace(lima, train=replace(lima.train, epochs=7)), "train", 1000)
    found = statuses(settings(storage), "setting/lima/train.checkpoints.")
    assert found == {"first_epoch": "within", "last_epoch": "no data"}


def test_filters_of_a_source_that_was_not_read(storage: Storage) -> None:
    (cell,) = curate_alpaca()
    write_run(storage, cell, "curate")
    assert set(statuses(settings(storage), "setting/curation/").values()) == {"no data"}


def test_the_temperature_of_a_pool_that_is_drawn_without_one(storage: Storage) -> None:
    (cell,) = curate_lima()
    assert cell.curate
    arms = tuple(
        replace(arm, parts=tuple(replace(part, balance="none") for part in arm.parts))
        for arm in cell.curate.arms
    )
    write_run(storage, replace(cell, curate=replace(cell.curate, arms=arms)), "curate")
    found = statuses(settings(storage), "setting/curation/curate.")
    assert {name.partition(".")[0]: status for name, status in found.items()} == {
        "filters": "within",
        "arms": "no data",
    }
