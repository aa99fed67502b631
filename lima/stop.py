"""A request to stop: a flag that every process of a job on one machine can raise and see.

The flag is a file, so that a signal handler, a preStop hook of a pod, or a person can raise it.
"""

import os
import tempfile
from pathlib import Path

VARIABLE = "LIMA_STOP_FILE"


def stop_file() -> Path:
    """Return the file whose existence is the request."""
    return Path(os.environ.get(VARIABLE) or Path(tempfile.gettempdir()) / "lima-stop")


def request_stop() -> None:
    """Ask the job on this machine to save its work and stop."""
    stop_file().touch()


def stop_requested() -> bool:
    """Say whether someone asked."""
    return stop_file().exists()
