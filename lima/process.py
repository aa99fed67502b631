"""When a process of this machine began: ids of processes are used again, start times are not."""

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_FOLDER = re.compile(r"(?:lima-[a-z]+|[0-9a-f]{16})-(\d+)-(\d+)-\w+")
"""Of `owned_prefix`: the process and when it began."""


def start_ticks(pid: int) -> int:
    """Return when a process began, in clock ticks since the machine did; 0: the system hides it."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


@contextlib.contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """Yield a folder that is gone afterwards; its name tells whose it is, should we be killed."""
    with tempfile.TemporaryDirectory(prefix=owned_prefix(f"lima-{kind}")) as name:
        yield Path(name)


def owned_prefix(kind: str) -> str:
    """Return how the names of temporary folders of this process begin."""
    return f"{kind}-{os.getpid()}-{start_ticks(os.getpid())}-"


def abandoned_folders(home: Path) -> list[Path]:
    """Return the temporary folders in `home` whose processes are gone."""
    found = (f for f in home.glob("*") if f.is_dir() and not f.is_symlink())
    named = ((folder, _FOLDER.fullmatch(folder.name)) for folder in found)
    return sorted(
        folder for folder, name in named if name and start_ticks(int(name[1])) != int(name[2])
    )


def began(pid: int) -> float:
    """Return when a process began, in seconds since 1970; 0: the system does not say."""
    ticks = start_ticks(pid)
    if not ticks:
        return 0.0
    up = time.clock_gettime(time.CLOCK_BOOTTIME)  # what the ticks are counted on
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
