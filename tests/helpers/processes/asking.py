"""What a process says of itself, where it may end while it is asked."""

from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")


def unless_ended(ask: Callable[[], T], otherwise: T) -> T:
    """Return the answer of a process; if it has ended, or ends meanwhile, `otherwise`."""
    try:
        return ask()
    except psutil.NoSuchProcess:  # zombies too
        return otherwise


def command_line(process: psutil.Process) -> list[str]:
    """Return the program of a process and its arguments; of one that has ended, none."""
    return unless_ended(process.cmdline, [])
