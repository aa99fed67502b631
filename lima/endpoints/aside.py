"""What was paid for and storage has not taken yet: on the disk of this machine until it does."""

import contextlib
import os
import stat
import tempfile
import uuid
from hashlib import sha256
from pathlib import Path

from lima.common.paths import expanded
from lima.errors import StorageError
from lima.store.s3 import endpoint
from lima.store.storage import Storage


class Aside:
    """Small objects on their way to one folder of a storage. Threads may share it."""

    def __init__(self, storage: Storage, folder: str) -> None:
        """Name where they lie; nothing is made yet."""
        # One URI of S3 names different buckets at different servers.
        place = sha256(f"{endpoint() or ''} {storage.uri}".encode()).hexdigest()[:16]
        self._below = Path(place) / folder

    @property
    def folder(self) -> Path | None:
        """The folder, if there is one."""
        found = (home / self._below for home in _homes())
        return next((folder for folder in found if _is_ours(folder)), None)

    def keep(self, name: str, data: bytes) -> None:
        """Write an object; one of that name is replaced.

        Raises:
            StorageError: this machine has no place for it.

        """
        try:
            folder = self._made()
            partial = folder / f".{uuid.uuid4().hex}"
            with partial.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(folder / name)
        except OSError as error:
            raise StorageError(
                f"what was paid for cannot be kept on this machine: {error}"
            ) from error

    def drop(self, name: str) -> None:
        """Delete an object, if it is there."""
        if folder := self.folder:
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the names of all objects."""
        folder = self.folder
        files = folder.iterdir() if folder else ()
        return sorted(file.name for file in files if not file.name.startswith("."))

    def read(self, name: str) -> bytes:
        """Return an object that is there."""
        folder = self.folder
        return (folder / name).read_bytes() if folder else b""

    def _made(self) -> Path:
        if there := self.folder:
            return there
        for home in _homes():
            folder = home / self._below
            with contextlib.suppress(OSError):
                home.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if _is_ours(folder):
                return folder
        raise OSError("neither the home folder nor that of temporary files can be written")


def _homes() -> list[Path]:
    """Return where such objects may lie, the best place first."""
    state = expanded(os.environ.get("XDG_STATE_HOME") or "~/.local/state")
    return [state / "lima-k8s", Path(tempfile.gettempdir()) / f"lima-k8s-{os.getuid()}"]


def _is_ours(folder: Path) -> bool:
    """Say whether a folder is there and ours: what others wrote must not be taken for answers."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
