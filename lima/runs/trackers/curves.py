"""Numbers of a run on their way to all trackers, which no run waits for, or fails for.

TensorBoard's files are always written. Others are told where their own variables are set and
their clients are installed. Each has a thread of its own: one that does not answer holds up neither
the run nor another one.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from queue import SimpleQueue
from threading import Thread
from types import TracebackType

from lima.errors import whole_reason
from lima.runs.trackers.mlflow_client import MLflow, asked_for_mlflow
from lima.runs.trackers.tensorboard import TensorBoard
from lima.runs.trackers.tracker import Point, Tracked, Tracker, TrackerKind
from lima.runs.trackers.wandb_client import WeightsAndBiases, asked_for_wandb
from lima.spec import CellSpec
from lima.store.storage import Storage

log = logging.getLogger(__name__)
KINDS = (
    TrackerKind("TensorBoard", TensorBoard, "tensorboardX", "jobs", lambda: "always"),
    TrackerKind("MLflow", MLflow, "mlflow", "mlflow", asked_for_mlflow),
    TrackerKind("Weights & Biases", WeightsAndBiases, "wandb", "wandb", asked_for_wandb),
)
"""All trackers. One more is a file like theirs, and a line here."""
EVERY_S = 30.0
"""Between two stretches: an object store charges for each file, and TensorBoard opens them all."""
GRACE_S = 20.0
"""That the end of a stage waits for trackers that have not written all yet."""


class Curves:
    """Collects numbers of one stage of a run, and gives them to the trackers now and then."""

    def __init__(self, storage: Storage, cell: CellSpec) -> None:
        """Track the last stage of `cell`, which is the part up to it."""
        self._tracked = Tracked(storage, cell)
        self._lanes: list[_Lane] | None = None
        self._pending: list[Point] = []
        self._next = time.monotonic() + EVERY_S

    def __enter__(self) -> "Curves":
        """Return itself, to be closed in the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """Close; the stage is complete if nothing was raised."""
        self.close(complete=kind is None)

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Note values of a step, by their names; those that are None are left out."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        self._pending.append(Point(step, time.time(), known))
        if time.monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Give out what was noted; must precede a state, so that no stretch spans it."""
        pending, self._pending = self._pending, []
        self._next = time.monotonic() + EVERY_S
        if pending:
            for lane in self._opened():
                lane.write(pending)

    def rewind(self, step: int) -> None:
        """Have the trackers forget what is after `step`: it will be done again."""
        for lane in self._opened():
            lane.do(lambda tracker: tracker.rewind(step))

    def close(self, *, complete: bool) -> None:
        """Give out the rest, and wait a while until all is written; nothing can follow.

        Args:
            complete: Whether the stage came to its end.

        """
        self.flush()
        lanes, until = self._lanes or [], time.monotonic() + GRACE_S
        for lane in lanes:
            lane.do(lambda tracker: tracker.close(complete=complete))
            lane.end()
        for lane in lanes:
            lane.join(max(until - time.monotonic(), 0.0))

    def _opened(self) -> "list[_Lane]":
        """Return the lanes of the trackers that are asked for; only who writes opens any."""
        if self._lanes is None:
            self._lanes = [_Lane(kind, self._tracked) for kind in KINDS if _is_wanted(kind)]
        return self._lanes


def _is_wanted(kind: TrackerKind) -> bool:
    """Say whether a tracker is asked for, and there."""
    asked = kind.asked()
    if asked and find_spec(kind.client) is None:
        log.warning(
            "%s is set, but the client of %s is not installed: pip install 'lima-k8s[%s]'; the "
            "run goes on without it",
            asked,
            kind.name,
            kind.extra,
        )
        return False
    return bool(asked)


class _Lane:
    """A tracker and its thread, which does what it is given in that order."""

    def __init__(self, kind: TrackerKind, tracked: Tracked) -> None:
        self.kind, self._tracked = kind, tracked
        self._tracker: Tracker | None = None
        self._told = ""
        self._unwritten: deque[Sequence[Point]] = deque()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon: at the end of the process nobody waits for a server that is away.
        self._thread = Thread(target=self._work, name=kind.name, daemon=True)
        self._thread.start()

    def write(self, points: Sequence[Point]) -> None:
        """Have a stretch of steps written, after those that could not be before."""
        self._jobs.put(lambda: self._unwritten.append(points))
        self.do(self._write_all)

    def do(self, job: Callable[[Tracker], None]) -> None:
        """Have something done with the tracker."""
        self._jobs.put(lambda: job(self._opened()))

    def end(self) -> None:
        """Let the thread end after what it was given."""
        self._jobs.put(None)

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended, so long at most."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.warning(
                "%s does not answer; the last of the curves are not written there", self.kind.name
            )

    def _opened(self) -> Tracker:
        if self._tracker is None:
            self._tracker = self.kind.open(self._tracked)
        return self._tracker

    def _write_all(self, tracker: Tracker) -> None:
        while self._unwritten:
            tracker.write(self._unwritten[0])
            self._unwritten.popleft()

    def _work(self) -> None:
        while job := self._jobs.get():
            try:
                job()
            except Exception as error:  # noqa: BLE001 - a client of others raises anything
                self._tell(whole_reason(error))

    def _tell(self, reason: str) -> None:
        """Log why something was not done, once as long as it is the same."""
        if reason != self._told:
            log.warning("curves are not written to %s: %s", self.kind.name, reason)
        self._told = reason
