"""A worker that saves one state after another beside its work, and is killed on the way.

`python -m tests.helpers.processes.saving_child FOLDER SEEDS` forks a worker a seed, ends it
(SIGKILL) at a random moment, and prints what its storage then holds; torch is imported once for all
of them.
"""

import json
import os
import random
import signal
import sys
import time

import torch

from lima.errors import LimaError
from lima.store.storage import Storage
from lima.training import state
from lima.training.aside import Aside, slice_of
from lima.training.background import Background
from lima.training.state import StateStore
from lima.training.world import World

WEIGHTS = {"a": 40_000, "b": 7, "c": 30_000}
"""Numbers of each: several files a state."""
state.FILE_BYTES = 200_000


def store(folder: str) -> StateStore:
    return StateStore(Storage(folder), "run", World(0, 1, torch.device("cpu")), keep=2)


def memory() -> Aside:
    return Aside({name: slice_of(count, 0, 1) for name, count in WEIGHTS.items()})


def work(folder: str, said: int) -> None:
    """Save states of which every number is their step; tell each that counts."""
    states, aside, background = store(folder), memory(), Background()
    for step in range(1, 10_000):
        background.drain()
        for tensor in aside.tensors.values():
            tensor.fill_(step)

        def save(step: int = step) -> None:
            states.save(aside, step, background.go_on)
            os.write(said, f"{step}\n".encode())

        background.add(save)


def kill(folder: str, seed: int) -> dict[str, object]:
    chance, (read, write) = random.Random(seed), os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        work(folder, write)
        os._exit(1)
    os.close(write)
    with os.fdopen(read) as told:
        told.readline()  # its first state counts
        time.sleep(chance.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        last = max((int(line) for line in told if line.endswith("\n")), default=1)
    return found(folder) | {"told": last}


def found(folder: str) -> dict[str, object]:
    """Return the step that training would go on from, and what it would read."""
    states, aside, used = store(folder), memory(), list[int]()
    committed = [s.step for s in states.states()]
    try:
        step = states.restore(lambda: aside, used.append)
    except LimaError as error:
        return {"error": str(error)}
    values = sorted({float(v) for t in aside.tensors.values() for v in (t.min(), t.max())})
    names = (e.path.split("/")[3].removesuffix(".json") for e in states.storage.entries(""))
    left = sorted({int(name.removeprefix("step=")) for name in names})
    return {"committed": committed, "step": step, "used": used, "values": values, "left": left}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for seed in range(int(sys.argv[2])):
        print(json.dumps(kill(f"{sys.argv[1]}/{seed}", seed)), flush=True)
