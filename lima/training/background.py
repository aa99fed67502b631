"""Work that one worker does beside training: one job after another, in the order given."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from lima.errors import Interrupted


class Background:
    """A thread with a queue. What goes wrong in it is told where training asks, never lost."""

    def __init__(self) -> None:
        """Begin with no work."""
        self._pool = ThreadPoolExecutor(1, "saving")
        self._jobs: list[Future[None]] = []
        self._given_up = Event()

    def add(self, job: Callable[[], None]) -> Future[None]:
        """Do `job` after those that were added before it; not if one of them fails."""
        self._jobs.append(self._pool.submit(self._do, job))
        return self._jobs[-1]

    def _do(self, job: Callable[[], None]) -> None:
        self.go_on()
        try:
            job()
        except BaseException:
            self._given_up.set()  # what comes later counts on this
            raise

    def go_on(self) -> None:
        """Return, unless what is under way is of no use any more; long jobs ask between parts.

        Raises:
            Interrupted: it is not.

        """
        if self._given_up.is_set():
            raise Interrupted("given up, since what came before it failed")

    @property
    def busy(self) -> bool:
        """Whether a job is under way, or waits."""
        return any(not job.done() for job in self._jobs)

    @property
    def failed(self) -> bool:
        """Whether a job has failed."""
        return any(job.done() and job.exception() is not None for job in self._jobs)

    def check(self) -> None:
        """Raise what the first job that failed has raised."""
        for job in self._jobs:
            if job.done():
                job.result()
        self._jobs = [job for job in self._jobs if not job.done()]

    def drain(self) -> None:
        """Wait until all is done; raise what the first job that failed has raised."""
        for job in self._jobs:
            job.result()
        self._jobs = []

    def close(self) -> None:
        """Give up what is under way, and wait until the thread has ended."""
        self._given_up.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
