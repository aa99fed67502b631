"""What the pool of workers counts as a death, and when it replaces one, with a Ray of our own.

Losing machines of eight workers cannot be had on one machine.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

import lima_jobs.generate
from lima.errors import ClusterError, LimaError
from lima.generation.run import PromptShard, generate_spec, shards_together
from lima.recipes.paper import ablations_7b
from lima.spec import CellSpec, ComputeSpec
from lima.store.storage import Storage
from lima_jobs.generate import MAX_DEATHS, _Pool, _Worker

WORKERS = 8


@dataclass(eq=False)
class Actor:
    """Stands on a machine; its methods return tasks."""

    ray: "Ray"
    machine: str

    @property
    def load(self) -> Any:
        return Call(self, None)

    @property
    def generate(self) -> Any:
        return Call(self, "")


@dataclass(eq=False)
class Call:
    actor: Actor
    shard: str | None

    def remote(self, *shards: PromptShard) -> "Call":
        return Call(self.actor, shards[0].name if shards else None)


@dataclass
class Ray:
    """Ends one task after the other. Actors start on `machine`."""

    machine: str = "first"
    alive: set[str] = field(default_factory=lambda: {"first", "second"})
    going: str = ""
    deadly: str = ""
    ended: int = 0
    started: list[str] = field(default_factory=list)

    def remote(self, *_: object, **__: object) -> Any:
        def made(*_: object) -> Any:
            ray = self

            class Factory:
                def remote(self, *_: object) -> Actor:
                    ray.started.append(ray.machine)
                    return Actor(ray, ray.machine)

            return Factory()

        return made

    def wait(self, tasks: list[Call], timeout: float) -> tuple[list[Call], list[Call]]:
        return tasks[:1], tasks[1:]

    def kill(self, actor: Actor) -> None:
        pass

    def get(self, task: Call) -> Any:
        if task.actor.machine not in self.alive or (self.deadly and task.shard == self.deadly):
            raise ActorDiedError
        if task.shard is None:
            return task.actor.machine
        if task.actor.machine == self.going:
            return None
        self.ended += 1
        return 1


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    ray = Ray()
    monkeypatch.setattr(lima_jobs.generate, "ray", ray)
    monkeypatch.setattr(lima_jobs.generate, "machines", lambda: dict.fromkeys(ray.alive, "name"))
    monkeypatch.setattr(lima_jobs.generate, "STOP_POLL_S", 0.01)
    monkeypatch.setenv("LIMA_STOP_FILE", "/nonexistent/stop")
    return ray


@pytest.fixture(params=["alone", "in pairs", "many together"])
def pool(ray: Ray, request: pytest.FixtureRequest) -> _Pool:
    """Make a pool whose workers take one, two or six shards at a time."""
    together: dict[str, dict[str, Any]] = {
        "alone": {},
        "in pairs": {"engine": "vllm"},
        "many together": {"engine": "vllm", "batch_size": 400},
    }
    return _Pool(cell(**together[request.param]), Storage("/nonexistent"), shards(40))


def shards(count: int) -> list[PromptShard]:
    return [PromptShard(f"s{n}", ()) for n in range(count)]


def cell(**changes: Any) -> CellSpec:
    whole = ablations_7b()[0]
    assert whole.generate
    generate = replace(
        whole.generate,
        engine="transformers",
        batch_size=16,
        batch_tokens=None,
        compute=ComputeSpec(workers=WORKERS),
    )
    return replace(whole, generate=replace(generate, **changes))


def test_how_many_shards_keep_a_batch_full() -> None:
    def together(**changes: Any) -> int:
        return shards_together(generate_spec(cell(**changes)))

    assert together() == 1, "a shard's rows are to the last digit those of our engine alone"
    assert together(engine="vllm", shard_prompts=4) == 2  # 20 responses each, 16 at a time
    assert together(engine="vllm", shard_prompts=4, batch_size=64) == 5
    assert together(engine="a package's own") == 1


def test_a_worker_that_is_left_alone_takes_as_many_as_fit(ray: Ray) -> None:
    pool = _Pool(cell(engine="vllm", batch_size=400), Storage("/nonexistent"), shards(3))
    worker = _Worker(Actor(ray, "first"), WORKERS)
    pool._hand_out(worker)
    assert pool._shards_of(worker) == shards(3), "the seven others have ended"


def test_shards_are_shared_by_all_workers(ray: Ray) -> None:
    most: dict[int, int] = {}
    pool = _Pool(cell(engine="vllm", batch_size=400), Storage("/nonexistent"), shards(11))
    for _ in pool.run():
        for number in range(WORKERS):
            has = sum(1 for w, s in pool.busy.values() if s and w.number == number)
            most[number] = max(has, most.get(number, 0))
    assert max(most.values()) == 2
    assert sum(1 for count in most.values() if count) >= 5


def test_a_machine_that_dies_is_one_death(ray: Ray, pool: _Pool) -> None:
    done, most, lost = [], 0, 0
    for shard, _ in pool.run():
        done.append(shard.name)
        if len(done) == 9:
            ray.alive, ray.machine = {"second"}, "second"
            lost = len({worker.number for worker, _ in pool.busy.values()})
        most = max(most, pool.deaths)
    assert sorted(done) == sorted(f"s{n}" for n in range(40))
    assert ray.started == ["first"] * WORKERS + ["second"] * lost
    assert lost >= WORKERS - 1
    assert most <= 1


def test_a_machine_that_dies_while_its_workers_load_is_one_death(ray: Ray, pool: _Pool) -> None:
    ray.alive = {"second"}
    get = ray.get

    def moved(task: Call) -> Any:
        ray.machine = "second"
        return get(task)

    ray.get = moved  # type: ignore[method-assign]
    assert len(list(pool.run())) == 40


def test_machines_lost_over_a_long_run_do_not_add_up(ray: Ray, pool: _Pool) -> None:
    for _ in pool.run():
        if ray.ended % 3 == 0:
            ray.machine = f"after {ray.ended}"
            ray.alive = {ray.machine}
    assert len(set(ray.started)) > MAX_DEATHS + 1


def test_a_shard_that_kills_comes_last_and_ends_the_run(ray: Ray, pool: _Pool) -> None:
    ray.deadly = "s3"
    message = rf"workers died {MAX_DEATHS + 1} times with no shard finished .* at shard s3: "
    with pytest.raises(LimaError, match=message):
        list(pool.run())
    assert ray.ended == 39
    assert len(ray.started) < WORKERS + 2 * MAX_DEATHS


def test_workers_that_leave_are_replaced_when_their_machine_is_gone(
    ray: Ray, pool: _Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = iter(range(1000))

    def machines() -> dict[str, str]:
        if next(polls) == 20:  # it takes a while to go
            ray.alive, ray.machine = {"second"}, "second"
        return dict.fromkeys(ray.alive, "name")

    monkeypatch.setattr(lima_jobs.generate, "machines", machines)
    ray.going = "first"
    assert len(list(pool.run())) == 40
    assert ray.started == ["first"] * WORKERS + ["second"] * WORKERS
    assert pool.deaths == 0


def test_a_machine_that_stays_after_all_is_used_again(
    ray: Ray, pool: _Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lima_jobs.generate, "DEPARTURE_S", 0.05)
    ray.going, get = "first", ray.get

    def stays(task: Call) -> Any:
        if len(ray.started) > WORKERS:
            ray.going = ""
        return get(task)

    ray.get = stays  # type: ignore[method-assign]
    assert len(list(pool.run())) == 40
    assert ray.started == ["first"] * len(ray.started)


def test_a_machine_that_never_comes_is_not_waited_for_without_end(
    ray: Ray, pool: _Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last machine went while its workers loaded, and nobody brings up another."""
    monkeypatch.setattr(ray, "wait", lambda tasks, timeout: ([], tasks), raising=False)
    monkeypatch.setattr(lima_jobs.generate, "missing_machines", lambda _: "0 of 1 GPUs are there")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setenv("LIMA_WAIT_MINUTES", "0.001")
    with pytest.raises(ClusterError, match="0 of 1 GPUs are there"):
        list(pool.run())
