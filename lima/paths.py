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


def joined(root: str, path: str) -> str:
    """Return a path as it is opened: one that is relative stands below `root`, if there is one."""
    absolute = "://" in path or expanded(path).is_absolute()
    return path if absolute or not root else f"{root.rstrip('/')}/{path}"


def file_name(path: str) -> str:
    """Return what a file, a folder or a URI is called, without the folders above it."""
    return path.rstrip("/").rpartition("/")[2] or path
