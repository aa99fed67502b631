"""Outlasts minutes in which storage does not answer: a stage in a cluster is done again then.

Without this the driver would end and KubeRay bring up the machines anew, a few times and in
vain: a storage that is away for ten minutes would have used all starts of the job up.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from lima.common.variables import WAIT_MINUTES
from lima.errors import InputError, Interrupted, NoAnswerError, StorageError
from lima.runs.progress import read_progress
from lima.runs.stop import stop_requested
from lima.store.reachable import require_answer
from lima.store.storage import Storage
from lima_jobs.machines import SAY_S, in_cluster, wait_minutes

log = logging.getLogger(__name__)

POLL_S = 0.5
PAUSE_S = 5.0
"""Between two questions to storage, and before work is done again: it grows with each time."""
CONNECT_S = 1.0
"""Not 0, with which AWS's own address would be guessed."""


def outlast(work: Callable[[], None], storage: Storage, run: str, stage: str) -> None:
    """Do `work`, again if it ended because storage did not answer, in a cluster.

    Only for a storage that has answered before: there may be an error in what names it.

    Args:
        work: What to do; it goes on where it was.
        storage: Where its results go.
        run: Id of the run whose progress tells whether the work gets on.
        stage: Its stage.

    Raises:
        StorageError: storage did not answer for LIMA_WAIT_MINUTES, or the work ended so time and
            again and has not got on for as long.
        Interrupted: a stop was requested.
        Exception: what else ended the work.

    """
    best, since, times = -1, time.monotonic(), 0
    while error := _ended_by_outage(work, storage):
        failed = time.monotonic()
        log.warning("%s: storage gave no answer: %s", stage, error)
        _wait_for_answer(storage, error)
        done = _done(storage, run, stage)
        if done > best:
            best, since, times = done, failed, 0
        elif time.monotonic() - since > 60 * wait_minutes():
            raise _out_of_time(error) from error
        times += 1
        _pause(times * PAUSE_S)
        log.info("storage answers; %s goes on", stage)


def _ended_by_outage(work: Callable[[], None], storage: Storage) -> Exception | None:
    """Return what ended the work if that was storage being away; None: it is done."""
    try:
        work()
    except (InputError, Interrupted):
        raise
    except Exception as error:
        # Ray's own words for it are many.
        if in_cluster() and (isinstance(error, NoAnswerError) or _is_away(storage)):
            return error
        raise
    return None


def _is_away(storage: Storage) -> bool:
    try:
        require_answer(storage.uri, CONNECT_S)
        storage.exists("progress")
    except NoAnswerError:
        return True
    except StorageError:
        return False  # that it refuses is an answer
    return False


def _wait_for_answer(storage: Storage, error: Exception) -> None:
    minutes = wait_minutes()
    give_up, say = time.monotonic() + 60 * minutes, time.monotonic()
    with _asking(storage) as answered:
        while not answered.wait(POLL_S):
            if stop_requested():
                raise _stopped() from error
            if time.monotonic() > give_up:
                raise _out_of_time(error) from error
            if time.monotonic() >= say:
                log.info("waiting for storage to answer, %g minutes at most", minutes)
                say = time.monotonic() + SAY_S


@contextlib.contextmanager
def _asking(storage: Storage) -> Iterator[threading.Event]:
    """Ask storage until it answers; yields what tells so. One question may take a minute."""
    answered, ended = threading.Event(), threading.Event()

    def ask() -> None:
        while _is_away(storage):
            if ended.wait(PAUSE_S):
                return
        answered.set()

    threading.Thread(target=ask, name="storage", daemon=True).start()
    try:
        yield answered
    finally:
        ended.set()


def _done(storage: Storage, run: str, stage: str) -> int:
    """Return how much of the stage is done, as its workers have said."""
    progress = read_progress(storage, run)
    return int(progress["done"]) if progress and progress["stage"] == stage else 0


def _pause(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if stop_requested():
            raise _stopped()
        time.sleep(min(POLL_S, seconds))


def _stopped() -> Interrupted:
    return Interrupted("stopped on request while storage was away; the same command resumes it")


def _out_of_time(error: Exception) -> StorageError:
    return StorageError(
        f"storage gave no answer, or the work did not get on, for {wait_minutes():g} minutes "
        f"({WAIT_MINUTES}, cluster.waitMinutes); the last reason: {error}"
    )
