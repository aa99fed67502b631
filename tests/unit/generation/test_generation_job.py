"""The pool of Ray actors: equal rows whatever dies, and errors that name what to do."""

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import lima_jobs.generate
from lima.data.examples import load_examples
from lima.errors import ChangedInputError, Interrupted, LimaError, ModelError
from lima.model.end_of_turn import train_tokenizer
from lima.model.loading import scratch_model
from lima.runs.progress import Progress, read_progress
from lima.spec import (
    CellSpec,
    ComputeSpec,
    DataSpec,
    DecodingSpec,
    GenerateSpec,
    JudgeSpec,
    ModelSpec,
    ShapeSpec,
    stage_cell,
)
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from lima_jobs.generate import run_generate
from lima_jobs.session import ray_session
from tests.conftest import s3_environment
from tests.helpers.promised import promised
from tests.unit.inputs.test_hub_commits import NEW, OLD

pytestmark = pytest.mark.slow

PROMPTS, SHARDS = 12, 6
RUN = "progress"


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache of a hub, which is empty yet."""
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module", autouse=True)
def ray(cell: CellSpec, s3_server: str, hub_cache: Path) -> Iterator[None]:
    """Start Ray, whose workers reach the bucket and the cache of the hub too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_CACHE", str(hub_cache))
        for name, value in s3_environment(s3_server).items():
            patch.setenv(name, value)
        with ray_session([cell]):
            yield


@pytest.fixture(autouse=True)
def no_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMA_STOP_FILE", str(tmp_path / "stop"))
    return tmp_path / "stop"


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> CellSpec:
    """A cell that samples 24 responses of up to 400 tokens from a small random model."""
    folder = tmp_path_factory.mktemp("generate")
    prompts = [f"Question {n}: " + "why " * (n % 5) for n in range(PROMPTS)]
    lines = [json.dumps({"conversations": [p, "Because."], "source": "s"}) for p in prompts]
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    train_tokenizer(prompts, 300, folder / "model")
    torch.manual_seed(0)
    scratch_model(ShapeSpec(300, 32, 2, 4, 64, 512), 300).save_pretrained(folder / "model")
    spec = GenerateSpec(
        DataSpec(str(folder / "prompts.jsonl")),
        ModelSpec(str(folder / "model"), eot_token="</s>"),
        DecodingSpec(max_new_tokens=400, samples=2),
        shard_prompts=PROMPTS // SHARDS,
        compute=ComputeSpec(workers=2, device="cpu", precision="fp32"),
    )
    return CellSpec("study", "arm", 3, generate=spec, judge=JudgeSpec())


@pytest.fixture(scope="module")
def undisturbed(cell: CellSpec, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    storage = Storage(str(tmp_path_factory.mktemp("undisturbed")))
    run_generate(cell, storage, Progress(storage, RUN))
    return storage


def table(cell: CellSpec, storage: Storage) -> RunTable:
    return RunTable(storage, GENERATIONS, stage_cell(cell, "generate"))


def rows(cell: CellSpec, storage: Storage) -> list[dict[str, Any]]:
    """Return all rows but the time they were written at."""
    return [{**row, "at": None} for row in table(cell, storage).read().to_pylist()]


def altered(cell: CellSpec, **changes: Any) -> CellSpec:
    assert cell.generate is not None
    return replace(cell, generate=replace(cell.generate, **changes))


class Killer(threading.Thread):
    """Sends SIGKILL to `count` workers that sample, as soon as `storage` holds a shard."""

    def __init__(
        self, folder: RunTable, count: int, shards: int, before: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(daemon=True)
        self.table, self.count, self.shards, self.before = folder, count, shards, before
        self.killed: set[int] = set()

    def run(self) -> None:
        while len(self.killed) < self.count:
            time.sleep(0.1)  # each look is at the titles of all processes
            if len(self.table.shards()) >= self.shards:
                self.before()
                self._kill_one()

    def _kill_one(self) -> None:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                sampling = "GenerateWorker.generate" in " ".join(process.cmdline())
                if sampling and process.pid not in self.killed:
                    process.kill()
                    self.killed.add(process.pid)
                    return


def test_every_prompt_gets_its_samples(cell: CellSpec, undisturbed: Storage) -> None:
    assert cell.generate is not None
    keys = [example.prompt_key for example in load_examples(cell.generate.prompts)]
    found = rows(cell, undisturbed)
    assert [(row["prompt_key"], row["sample"]) for row in found] == [
        (key, sample) for key in keys for sample in range(2)
    ]
    assert len(table(cell, undisturbed).shards()) == SHARDS
    progress = read_progress(undisturbed, RUN)
    assert progress is not None
    assert (progress["done"], progress["total"], progress["unit"]) == (PROMPTS, PROMPTS, "prompts")
    assert progress["figures"]["tokens_per_second"] > 0


def test_only_missing_shards_are_generated(cell: CellSpec, undisturbed: Storage) -> None:
    shards = table(cell, undisturbed)
    times = {
        path: path.stat().st_mtime_ns
        for path in Path(undisturbed.root).glob("generations/**/*.parquet")
    }
    before = rows(cell, undisturbed)
    undisturbed.delete(shards.path(shards.shards()[2]))
    run_generate(cell, undisturbed, Progress(undisturbed, RUN))
    assert rows(cell, undisturbed) == before
    assert sum(path.stat().st_mtime_ns == then for path, then in times.items()) == SHARDS - 1


def test_a_killed_worker_changes_no_row(
    cell: CellSpec, undisturbed: Storage, tmp_path: Path
) -> None:
    storage = Storage(str(tmp_path))
    killer = Killer(table(cell, storage), count=1, shards=1)
    killer.start()
    run_generate(cell, storage, Progress(storage, RUN))
    assert len(killer.killed) == 1
    assert rows(cell, storage) == rows(cell, undisturbed)


def test_workers_that_always_die_end_the_run(
    cell: CellSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lima_jobs.generate, "MAX_DEATHS", 1)
    compute = ComputeSpec(device="cpu", precision="fp32")
    one = altered(cell, shard_prompts=PROMPTS, compute=compute)
    storage = Storage(str(tmp_path))
    killer = Killer(table(one, storage), count=2, shards=0)
    killer.start()
    with pytest.raises(LimaError, match=r"died 2 times .* the last one at shard prompts-00000-"):
        run_generate(one, storage, Progress(storage, RUN))
    assert table(one, storage).shards() == []


def test_an_error_of_a_worker_is_raised_as_it_is(cell: CellSpec, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    lost = altered(cell, model=ModelSpec(str(tmp_path / "lost")))
    with pytest.raises(ModelError, match="no such folder"):
        run_generate(lost, storage, Progress(storage, RUN))


def test_a_requested_stop_is_obeyed(cell: CellSpec, tmp_path: Path, no_stop: Path) -> None:
    no_stop.touch()
    storage = Storage(str(tmp_path))
    with pytest.raises(Interrupted, match="the same command resumes it"):
        run_generate(cell, storage, Progress(storage, RUN))


@pytest.mark.parametrize("where", ["here", "bucket"])
def test_what_is_replaced_under_a_killed_worker_is_refused_and_restored_it_goes_on(
    where: str,
    cell: CellSpec,
    undisturbed: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIMA_CACHE", str(tmp_path / "cache"))
    assert cell.generate
    place = Storage(str(tmp_path / "in") if where == "here" else f"s3://study/{tmp_path.name}")
    folder = Path(cell.generate.model.path)
    place.upload_folder(folder, "model")
    place.upload(Path(cell.generate.prompts.path), "p.jsonl")
    model = replace(cell.generate.model, path=f"{place.uri}/model")
    compute = replace(cell.generate.compute, workers=1)
    own = altered(cell, prompts=DataSpec(f"{place.uri}/p.jsonl"), model=model, compute=compute)
    (own,), storage = promised([replace(own, judge=None)]), Storage(str(tmp_path / "out"))
    config, before = "model/generation_config.json", place.read("p.jsonl")
    killer = Killer(table(own, storage), 1, 1, lambda: place.write(config, b"{}", replace=True))
    killer.start()
    with pytest.raises(ChangedInputError, match="model") as error:
        run_generate(own, storage, Progress(storage, RUN))
    assert error.value.exit_code == 2
    place.write(config, (folder / "generation_config.json").read_bytes(), replace=True)
    done = rows(own, storage)
    assert 0 < len(done) < 2 * PROMPTS
    place.write("p.jsonl", before.replace(b"Question", b"Other"), replace=True)
    with pytest.raises(ChangedInputError, match=r"p\.jsonl"):
        run_generate(own, storage, Progress(storage, RUN))
    assert rows(own, storage) == done
    place.write("p.jsonl", before, replace=True)
    run_generate(own, storage, Progress(storage, RUN))
    assert responses(own, storage) == responses(cell, undisturbed)


def test_a_branch_of_a_hub_that_moves_under_a_killed_worker_changes_nothing(
    cell: CellSpec, undisturbed: Storage, hub_cache: Path, tmp_path: Path
) -> None:
    assert cell.generate
    model = hub_cache / "models--team--tiny"
    for commit in (OLD, NEW):
        shutil.copytree(cell.generate.model.path, model / "snapshots" / commit)
    torch.manual_seed(1)
    other = model / "snapshots" / NEW
    scratch_model(ShapeSpec(300, 32, 2, 4, 64, 512), 300).save_pretrained(other)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(OLD)
    own = altered(cell, model=replace(cell.generate.model, path="team/tiny"))
    (own,), storage = promised([replace(own, judge=None)]), Storage(str(tmp_path))
    assert own.generate
    assert own.generate.model.fingerprint == f"commit:{OLD}"
    moved = (model / "refs" / "main").write_text
    killer = Killer(table(own, storage), 1, 1, lambda: moved(NEW))
    killer.start()
    run_generate(own, storage, Progress(storage, RUN))
    assert len(killer.killed) == 1
    assert responses(own, storage) == responses(cell, undisturbed)
    assert {row["model"] for row in rows(own, storage)} == {f"team/tiny@{OLD}"}
    assert run_id(promised([own])[0]) == run_id(own), "what was promised stays promised"


def responses(cell: CellSpec, storage: Storage) -> list[tuple[str, int, str]]:
    return [(row["prompt_key"], row["sample"], row["response"]) for row in rows(cell, storage)]
