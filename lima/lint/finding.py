"""What lint finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lima.lint.facts import Facts
    from lima.spec import CellSpec

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """What is wrong or worth knowing, where in the spec, and what to do.

    An error would fail the run or make it another study; a warning is rarely meant; a note says
    what will happen.
    """

    level: Level
    path: str
    message: str
    fix: str = ""
    runs: tuple[str, ...] = ()
    """The runs it holds for, as `arm/seed`."""
    here_alone: bool = False
    """Whether it is about this machine alone: a pod has other files."""


Check = Callable[["CellSpec", "Facts"], Iterator[Finding]]
