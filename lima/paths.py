"""Paths of local files as users write them."""

from pathlib import Path

from lima.errors import InputError


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


def require_regular(path: Path) -> Path:
    """Return `path` if a file can be made there, or a regular one replaced.

    Raises:
        InputError: a link, a device, a folder or the like is there.

    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "a link" if path.is_symlink() else "no regular file"
        raise InputError(f"{path}: {kind}, which is not written over; name another file")
    return path
