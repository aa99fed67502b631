"""Copies of models on this machine: of object stores, and unpacked GGUF files; each made once."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lima.common.paths import file_name, own_folder
from lima.common.variables import CACHE
from lima.errors import ModelError
from lima.inputs.model_files import is_gguf, needed_files
from lima.model.copies import one_at_a_time
from lima.model.gguf import require_library, unpack
from lima.model.unusable import unusable
from lima.spec import ModelSpec
from lima.spec.codec import sha256_key

if TYPE_CHECKING:
    from lima.store.storage import Storage


def fetched(uri: str) -> Path:
    """Return the local copy of a file of an object store; one worker of a machine makes it."""
    from lima.store.storage import Storage

    folder, _, name = uri.rpartition("/")
    storage = Storage(folder)
    entry = storage.entry(name)
    if entry is None:
        raise ModelError(f"{uri}: no such file; model.path must name a saved model")
    if local := storage.local_path(name):
        return local
    home = _cache()
    copy = home / sha256_key([uri, entry.size, entry.modified])[:16] / name
    with one_at_a_time(home / f"{copy.parent.name}.lock", f"copies {uri}"):
        if not copy.exists():
            storage.download(name, copy)
    return copy


def unpacked(file: Path, spec: ModelSpec) -> Path:
    """Return a folder with the model of a GGUF file; one worker of a machine makes it for all.

    It is named by where the file lies, its size and its time.

    Raises:
        ModelError: it is no such file, or holds no model that transformers knows.

    """
    if not is_gguf(file.name):
        raise ModelError(f"{spec.path}: a file, and no GGUF file; name the folder of a saved model")
    require_library(spec.path)
    home, state = _cache(), file.stat()
    name = sha256_key([str(file.absolute()), state.st_size, state.st_mtime_ns])[:16]
    folder = home / name
    with one_at_a_time(home / f"{name}.lock", f"unpacks {file_name(spec.path)}"):
        if not folder.exists():
            partial = home / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # of a worker that was killed
            try:
                unpack(file, partial)
            except Exception as error:
                raise unusable(spec.path, "model", error) from error
            partial.rename(folder)
    return folder


def cached_folder(storage: "Storage", path: str, uri: str) -> Path:
    """Return the local copy of a saved model; one worker of a machine makes it for all.

    The copy is named by its address and the sizes and times of the files there: a model that
    was replaced is copied anew.
    """
    entries = storage.entries(path)
    if f"{path}/config.json".lstrip("/") not in [entry.path for entry in entries]:
        raise ModelError(f"{uri}: no config.json there; model.path must name a saved model")
    home = _cache()
    folder = home / sha256_key([uri, *([e.path, e.size, e.modified] for e in entries)])[:16]
    if folder.exists():
        return folder
    wanted = needed_files([entry.path for entry in entries])
    with one_at_a_time(home / f"{folder.name}.lock", f"copies {uri}"):
        if not folder.exists():
            partial = home / f"{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # of a worker that was killed
            storage.download_folder(path, partial, wanted)
            partial.rename(folder)
    return folder


def _cache() -> Path:
    """Return the folder of copies: the one that the environment names, else one of our own.

    Raises:
        InputError: others can write to what would be our own.

    """
    if named := os.environ.get(CACHE):
        home = Path(named)
        home.mkdir(parents=True, exist_ok=True)
        return home
    return own_folder(Path(tempfile.gettempdir()) / "lima-cache")
