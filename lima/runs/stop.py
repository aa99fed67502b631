"""A request to stop, and who still works: what the processes of a job on one machine share.

The request is a file, so that a signal handler, a preStop hook of a pod, or a person can raise
it. Who works leaves a mark beside it, so that a machine that must go can wait for them.
"""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from lima.common.process import began, start_ticks
from lima.common.variables import STOP_FILE


def stop_file() -> Path:
    """Return the file whose existence is the request."""
    return Path(os.environ.get(STOP_FILE) or Path(tempfile.gettempdir()) / "lima-stop")


def request_stop() -> None:
    """Ask the job on this machine to save its work and stop."""
    stop_file().parent.mkdir(parents=True, exist_ok=True)
    stop_file().touch()


def stop_requested() -> bool:
    """Say whether someone asked.

    A file from before the first process began was for another life of this container: a folder
    of its pod outlives it, and a preStop hook runs before a restart too.
    """
    try:
        return stop_file().stat().st_mtime >= began(1)
    except OSError:
        return False


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Say, while it lasts, that this process has work which a stop must wait for."""
    folder = _marks()
    folder.mkdir(parents=True, exist_ok=True)
    pid = os.getpid()
    mark = folder / f"{pid}-{start_ticks(pid)}-{uuid.uuid4().hex}"
    mark.touch()
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def busy_processes() -> set[int]:
    """Return the ids of the processes on this machine that are busy and alive."""
    marks = _marks().iterdir() if _marks().is_dir() else ()
    makers = {(int(pid), int(ticks)) for pid, ticks, _ in (m.name.split("-") for m in marks)}
    return {pid for pid, ticks in makers if _is_alive(pid) and start_ticks(pid) in (0, ticks)}


def _marks() -> Path:
    file = stop_file()
    return file.with_name(f"{file.name}.busy")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # A process that was killed and not yet waited for is a zombie: it works no more.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except (PermissionError, FileNotFoundError):
        return True
