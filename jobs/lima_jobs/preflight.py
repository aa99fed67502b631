"""Checks machines before weights are loaded: every GPU by itself, then an all-reduce over all.

    python -m lima_jobs.preflight --workers 32

A broken GPU or a cable out of its socket would otherwise show after minutes of loading, as a hang.
The jobs of a cluster do this first; by hand it needs a Ray cluster, or starts one.
"""

import argparse
import contextlib
import logging
import os
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

from lima.errors import LimaError
from lima_jobs.ownray import private_folder

log = logging.getLogger("lima_jobs.preflight")  # __name__ may be __main__

Device = Literal["cpu", "cuda"]
ELEMENTS = {"cuda": 64 << 20, "cpu": 1 << 20}
"""Of the tensor in the all-reduce: large enough to be bound by bandwidth."""
ROUNDS = 3
TIMEOUT_S = 300.0
"""For starting NCCL on hundreds of GPUs and for the rounds; a hang is what lasts longer."""
FREE = 0.9
"""A GPU with less of its memory free is used by someone else."""
SIDE = 4096
"""Of the matrices that a GPU multiplies; exact in bf16, since all products are small integers."""


@dataclass(frozen=True)
class Report:
    """What the check of all workers found."""

    workers: int
    hosts: int
    seconds: float
    gigabytes_per_second: float
    """Of each worker's data, through the slowest link of the all-reduce."""


def preflight(workers: int, device: Device) -> Report:
    """Check `workers` workers of a Ray cluster that is there.

    Raises:
        LimaError: a GPU is broken or taken, or the workers do not reach each other; it says where.

    """
    import ray

    started = time.monotonic()
    probes = [_probe(device) for _ in range(workers)]
    try:
        places = _answers(probes, "did not start", "place")
        _refuse(_answers(probes, "did not answer", "health"), places)
        sizes = [(rank, workers, _meeting(places[0])) for rank in range(workers)]
        seconds = max(_answers(probes, "did not end its all-reduce", "all_reduce", sizes))
    finally:
        for probe in probes:
            ray.kill(probe)
    moved = 4 * ELEMENTS[device] * 2 * (workers - 1) / workers
    report = Report(
        workers,
        len({host for host, _ in places}),
        time.monotonic() - started,
        moved / seconds / 1e9,
    )
    log.info(
        "preflight: %d workers on %d machines are well, all-reduce %.2f GB/s, %.1f s",
        report.workers,
        report.hosts,
        report.gigabytes_per_second,
        report.seconds,
    )
    return report


def _meeting(place: tuple[str, int]) -> str:
    """Return where the workers meet: for those of an own Ray, out of the reach of others."""
    host, port = place
    folder = private_folder()
    return f"file://{folder}/preflight" if folder else f"tcp://{host}:{port}"


def _probe(device: Device) -> Any:
    import ray

    gpus = 1 if device == "cuda" else 0
    return ray.remote(num_cpus=1, num_gpus=gpus)(Probe).remote(device)


def _answers(
    probes: list[Any], problem: str, method: str, arguments: list[tuple[Any, ...]] | None = None
) -> list[Any]:
    """Call a method of all probes; the error names those that did not answer."""
    import ray
    from ray.exceptions import RayError

    given = arguments or [()] * len(probes)
    calls = [getattr(p, method).remote(*a) for p, a in zip(probes, given, strict=True)]
    _, late = ray.wait(calls, num_returns=len(calls), timeout=TIMEOUT_S)
    if late:
        which = ", ".join(str(calls.index(call)) for call in late)
        raise LimaError(
            f"preflight: worker {which} of {len(probes)} {problem} within {TIMEOUT_S:g} s; look at "
            "the network between the machines (cluster.gpu.nccl, cluster.gpu.fabric)"
        )
    try:
        return list(ray.get(calls))
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise LimaError(f"preflight: a worker {problem}: {reason}") from error


def _refuse(found: list[list[str]], places: list[tuple[str, int]]) -> None:
    problems = [
        f"{host}: {problem}"
        for (host, _), own in zip(places, found, strict=True)
        for problem in own
    ]
    if problems:
        raise LimaError(
            "preflight: not all GPUs are well:\n  " + "\n  ".join(problems) + "\ndrain these "
            "machines; the run goes on when others take their place"
        )


class Probe:
    """An actor in the place of one worker."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def place(self) -> tuple[str, int]:
        """Return this machine's address and a port that is free there."""
        import ray

        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def health(self) -> list[str]:
        """Return what is wrong with this worker's GPU."""
        return gpu_problems() if self.device == "cuda" else []

    def all_reduce(self, rank: int, size: int, address: str) -> float:
        """Add a tensor over all workers; return the seconds of the fastest round."""
        import torch
        import torch.distributed as dist

        backend = "nccl" if self.device == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=address, rank=rank, world_size=size)
        try:
            return min(self._round(torch.device(self.device), size) for _ in range(ROUNDS))
        finally:
            dist.destroy_process_group()

    def _round(self, device: Any, size: int) -> float:
        import torch
        import torch.distributed as dist

        data = torch.ones(ELEMENTS[self.device], device=device)
        started = time.perf_counter()
        dist.all_reduce(data)
        wrong = int((data != size).sum())  # waits for the device
        seconds = time.perf_counter() - started
        if wrong:
            raise LimaError(f"an all-reduce over {size} workers gave {wrong} wrong sums")
        return seconds


def gpu_problems() -> list[str]:
    """Return what is wrong with this process's GPU: memory in use, arithmetic, counted errors."""
    import torch

    if not torch.cuda.is_available():
        return ["torch finds no GPU here; look at the driver and the image"]
    name = f"GPU {os.environ.get('CUDA_VISIBLE_DEVICES', '0')} ({torch.cuda.get_device_name()})"
    free, total = torch.cuda.mem_get_info()
    problems = []
    if free < FREE * total:
        problems.append(f"{name}: only {free >> 30} of {total >> 30} GiB are free")
    left = torch.ones(SIDE, SIDE, device="cuda", dtype=torch.bfloat16)
    if not bool(((left @ left) == SIDE).all()):
        problems.append(f"{name}: a matrix product is wrong")
    return [*problems, *(f"{name}: {problem}" for problem in counted_errors(_nvidia_smi()))]


COUNTERS = {
    "ecc.errors.uncorrected.volatile.total": "uncorrected memory errors since it was started",
    "remapped_rows.failure": "memory rows that could not be replaced",
    "remapped_rows.pending": "memory rows to be replaced at its next reset",
}
NONE = {"0", "No", ""}


def counted_errors(row: str) -> list[str]:
    """Return what the driver counted; `row` is nvidia-smi's line of `COUNTERS`.

    A counter that this GPU does not have reads `[N/A]`.
    """
    values = [value.strip() for value in row.split(",")]
    return [
        f"{meaning}: {value}"
        for meaning, value in zip(COUNTERS.values(), values, strict=False)
        if value not in NONE and not value.startswith("[")
    ]


def _nvidia_smi() -> str:
    """Return the line of counters of this process's GPU; empty where nvidia-smi is missing."""
    import subprocess

    device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    query = ["--query-gpu=" + ",".join(COUNTERS), "--format=csv,noheader", f"--id={device}"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(
            ["nvidia-smi", *query], capture_output=True, text=True, check=True
        ).stdout.strip()
    return ""


def main() -> None:
    """Check the workers of the command line; exits with the code of the contract."""
    from lima_jobs.joblog import set_up_logging
    from lima_jobs.rayinit import started_ray

    parser = argparse.ArgumentParser(description="Check machines before weights are loaded.")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    arguments = parser.parse_args()
    set_up_logging()
    try:
        with started_ray(os.cpu_count() or 1):
            preflight(arguments.workers, arguments.device)
    except LimaError as error:
        log.error("%s", error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
