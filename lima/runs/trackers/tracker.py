"""What a tracker is, and what it is told of the run whose curves it keeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from lima.runs.shown_settings import shown_settings
from lima.spec import CellSpec, Stage, cell_stages
from lima.spec.codec import encode, run_id
from lima.store.storage import Storage


class Point(NamedTuple):
    """Numbers of one step."""

    step: int
    at: float
    """Seconds since 1970."""
    values: Mapping[str, float]


@dataclass(frozen=True)
class Tracked:
    """One stage of a run, which is the last stage of `cell`."""

    storage: Storage
    cell: CellSpec

    @property
    def stage(self) -> Stage:
        """Name of the stage, before the names of all its curves."""
        return cell_stages(self.cell)[-1]

    @property
    def run(self) -> str:
        """Its run id."""
        return run_id(self.cell)

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.cell.arm}/{self.cell.seed} {self.stage}"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that it stands on, by their paths, without folders of this machine."""
        return shown_settings(encode(self.cell))


class Tracker(Protocol):
    """Keeps curves of one stage of a run. All of it is called in a thread of its own.

    What it raises is logged, and what could not be written is given again with what comes next.
    """

    def write(self, points: Sequence[Point]) -> None:
        """Keep these numbers, of steps after those of the calls before."""

    def rewind(self, step: int) -> None:
        """Forget the steps after `step`, if it can: they are done again, with the same numbers."""

    def close(self, *, complete: bool) -> None:
        """Say that no more comes, and whether the stage came to its end."""


@dataclass(frozen=True)
class TrackerKind:
    """A way to keep curves."""

    name: str
    """As its users call it."""
    open: Callable[[Tracked], Tracker]
    client: str
    """Module that must be installed."""
    extra: str
    """Extra of the package that brings it."""
    asked: Callable[[], str]
    """Returns the variable of the environment that asks for it; empty: none does."""
