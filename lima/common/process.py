"""When a process of this machine began: ids of processes are used again, start times are not."""

import os
import time
from pathlib import Path


def start_ticks(pid: int) -> int:
    """Return when a process began, in clock ticks since the machine did; 0: the system hides it."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def began(pid: int) -> float:
    """Return when a process began, in seconds since 1970; 0: the system does not say."""
    ticks = start_ticks(pid)
    if not ticks:
        return 0.0
    up = time.clock_gettime(time.CLOCK_BOOTTIME)  # what the ticks are counted on
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
