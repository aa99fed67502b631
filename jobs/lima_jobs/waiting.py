"""Waiting for workers, with an ear for a stop: while they start, nobody else would hear it."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from lima.errors import Interrupted
from lima.runs.stop import busy_processes, stop_requested
from lima_jobs.ownray import private_folder

T = TypeVar("T")
STOP_POLL_S = 0.5
"""Seconds within which a request to stop is heard."""


def unless_stopped(act: Callable[[], T]) -> T:
    """Return what `act` returns, which starts workers and waits for their work.

    Workers that work save what they have when a stop is asked for, and are waited for. Before
    that nothing is lost: then `act` is left behind, and ends with the Ray of this job. In a
    cluster, workers on other machines cannot be seen from here, and it is waited for them.

    Raises:
        Interrupted: a stop was asked for before any worker worked.
        BaseException: what `act` raises.

    """
    ended: Future[T] = Future()
    threading.Thread(target=_fulfil, args=(ended, act), daemon=True).start()
    while not wait([ended], STOP_POLL_S).done:
        if stop_requested() and private_folder() and not busy_processes() - {os.getpid()}:
            raise Interrupted(
                "stopped on request while its workers started; the same command resumes it"
            )
    return ended.result()


def _fulfil(ended: Future[T], act: Callable[[], T]) -> None:
    try:
        ended.set_result(act())
    except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
        ended.set_exception(error)
