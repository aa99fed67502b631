"""The machines of a Ray cluster that others bring up: waiting for them, losing some, leaving."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from lima.common.variables import ELASTIC, WAIT_MINUTES
from lima.errors import ClusterError, InputError, Interrupted
from lima.runs.stop import request_stop, stop_requested
from lima.spec import ComputeSpec, gpus

log = logging.getLogger(__name__)

DEFAULT_WAIT_MINUTES = 30.0
POLL_S = 0.5
SAY_S = 30.0
DEPARTURE_S = 90.0
"""A machine that was asked to go and is still there after this has changed its mind."""

Needs = Mapping[str, int]
"""How many of each of Ray's resources (`GPU`, `CPU`) a job needs at a time."""


def in_cluster() -> bool:
    """Say whether this job runs in a Ray cluster that is not its own."""
    return bool(os.environ.get("RAY_ADDRESS"))


def elastic() -> bool:
    """Say whether machines come when there is work for them, and go when there is none."""
    return os.environ.get(ELASTIC) == "1"


def wait_minutes() -> float:
    """Return how long to wait for machines.

    Raises:
        InputError: the environment does not say a number.

    """
    text = os.environ.get(WAIT_MINUTES) or str(DEFAULT_WAIT_MINUTES)
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{WAIT_MINUTES}={text}: not a number of minutes") from None


def wait_for_machines(needs: Needs) -> None:
    """Return when the Ray cluster has what the job needs.

    Raises:
        ClusterError: some of it is still missing after LIMA_WAIT_MINUTES.
        Interrupted: a stop was requested.

    """
    minutes = wait_minutes()
    give_up, say = time.monotonic() + 60 * minutes, time.monotonic() + POLL_S
    while missing := missing_machines(needs):
        if stop_requested():
            raise Interrupted("stopped on request while waiting for machines")
        if time.monotonic() > give_up:
            raise out_of_patience(missing)
        if time.monotonic() > say:
            log.info("waiting: %s", missing)
            say = time.monotonic() + SAY_S
        time.sleep(POLL_S)


def machines() -> dict[str, str]:
    """Return the machines that are there: Ray's node id and name."""
    import ray

    return {n["NodeID"]: n["NodeManagerHostname"] for n in ray.nodes() if n["Alive"]}


def wait_for_departure(before: Mapping[str, str]) -> None:
    """Return when one of the machines of `before` is gone, and say which.

    Its workers have stopped because it must go; until it is gone, Ray would use it again.
    """
    give_up = time.monotonic() + DEPARTURE_S
    while time.monotonic() < give_up and not stop_requested():
        there = machines()
        gone = [name for node, name in before.items() if node not in there]
        if gone:
            log.info("gone: %s; the work goes on elsewhere", ", ".join(gone))
            return
        time.sleep(POLL_S)


@contextlib.contextmanager
def stop_reaches_all() -> Iterator[None]:
    """Pass a request to stop that this machine gets on to all others of the job.

    When only the machine of the driver must go, the workers would never hear of it.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_pass_on, args=(ended,), name="stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _pass_on(ended: threading.Event) -> None:
    while not stop_requested():
        if ended.wait(POLL_S):
            return
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0)(request_stop)
    try:
        asked = [
            ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n, soft=False)).remote()
            for n in machines()
        ]
        while asked and not ended.is_set():
            _, asked = ray.wait(asked, num_returns=1, timeout=POLL_S)
    except ray.exceptions.RayError as error:
        log.warning("not all machines could be asked to stop (%s)", error)


def out_of_patience(missing: str) -> ClusterError:
    """Return what ends a job whose machines do not come."""
    return ClusterError(
        f"after {wait_minutes():g} minutes {missing}; `lima-k8s explain` says what keeps the "
        f"others, {WAIT_MINUTES} how long to wait (cluster.waitMinutes)"
    )


def workers_there(compute: ComputeSpec) -> int:
    """Return how many workers of this kind the machines that are there have room for."""
    import ray

    there = ray.cluster_resources()
    room = [there.get("CPU", 0)]
    if each := gpus(replace(compute, workers=1)):
        room.append(there.get("GPU", 0) // each)
    return min(int(min(room)), compute.workers)


def missing_machines(needs: Needs) -> str:
    """Return what is missing, in words; empty: nothing."""
    import ray

    there = ray.cluster_resources()
    lacking = [
        f"{int(there.get(kind, 0))} of {count} {kind}s are there"
        for kind, count in needs.items()
        if there.get(kind, 0) < count
    ]
    if not lacking:
        return ""
    names = ", ".join(sorted(machines().values())) or "none"
    return f"{' and '.join(lacking)} (machines: {names})"
