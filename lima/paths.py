"""Paths of local files as users write them."""

from pathlib import Path


def expanded(path: str) -> Path:
    """Return a path with `~` replaced by the home; that of an unknown user stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_here(path: str) -> bool:
    """Say whether a file or a folder is on this machine and may be looked at."""
    try:
        return expanded(path).exists()
    except OSError:  # a name that is too long, a folder that is closed to us
        return False
