"""Paths of local files as users write them."""

import importlib.util
import os
import stat
from pathlib import Path
from urllib.parse import quote

from lima.errors import InputError

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
"""Endings of packed files."""
PACKAGE = "package:"
"""Start of the path of a file that comes with an installed Python package."""


def expanded(path: str) -> Path:
    """Return a path with `~` replaced by the home; that of an unknown user stays as it is.

    `package:NAME/FILE` becomes the path of that file, if the package is installed.
    """
    if path.startswith(PACKAGE):
        return _of_package(path)
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _of_package(path: str) -> Path:
    name, _, file = path.removeprefix(PACKAGE).partition("/")
    # Found, not imported: nothing of the package runs.
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    folders = (found and found.submodule_search_locations) or ()
    return next((Path(folder) / file for folder in folders), Path(path))


def is_here(path: str) -> bool:
    """Say whether a file or a folder is on this machine and may be looked at."""
    try:
        return expanded(path).exists()
    except OSError:  # a name that is too long, a folder that is closed to us
        return False


def below(root: str, path: str) -> str:
    """Return a path as it is opened: one that is relative stands below `root`, if there is one."""
    absolute = "://" in path or expanded(path).is_absolute()
    return path if absolute or not root else f"{root.rstrip('/')}/{path}"


def file_name(path: str) -> str:
    """Return what a file, a folder or a URI is called, without the folders above it."""
    return path.rstrip("/").rpartition("/")[2] or path


def is_hidden(name: str) -> bool:
    """Say whether a file, or a folder that it lies in, is hidden."""
    return any(part.startswith(".") for part in name.split("/"))


def require_regular(path: Path) -> Path:
    """Return `path` if a file can be made there, or a regular one replaced.

    Raises:
        InputError: a link, a device, a folder or the like is there.

    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "a link" if path.is_symlink() else "no regular file"
        raise InputError(f"{path}: {kind}, which is not written over; name another file")
    return path


def own_folder(path: Path) -> Path:
    """Make a folder for this user alone in a place where others may make theirs, as in /tmp.

    Raises:
        InputError: what is there is another user's, or others can write to it.

    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{path}: no folder; remove it, or name another place in TMPDIR") from None
    there = path.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.geteuid() or there.st_mode & 0o022:
        raise InputError(
            f"{path}: another user made it or can write to it, so that nothing in it is to be "
            "trusted; remove it, or name another place in TMPDIR"
        )
    return path


def base_name(path: str) -> str:
    """Return the name of a file without its folder and its compression."""
    name = path.rstrip("/").rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0] if name.endswith(COMPRESSIONS) else name


def stem(path: str) -> str:
    """Return the name of a file without its folder, its suffix and its compression."""
    return base_name(path).rsplit(".", 1)[0]


def experiment_folders(experiment: str) -> tuple[str, str]:
    """Return the name of an experiment's folder in each table, and its older name."""
    name = quote(experiment, safe="")
    # Readers pass over folders that begin so, and a lone dot means another folder.
    visible = f"%{ord(name[0]):02X}{name[1:]}" if name.startswith((".", "_")) else name
    return visible, f"experiment={name}"
