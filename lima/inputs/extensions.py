"""Meets the Python files of a study's own: read, checked against what was promised, and run."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from lima.common.environment import environment
from lima.common.paths import expanded
from lima.common.temporary import temporary_folder
from lima.errors import DataError, SpecError
from lima.inputs.check import check_bytes
from lima.inputs.fingerprint import digits, of_bytes
from lima.spec import CellSpec, ExtensionSpec, cell_stages, used_extensions
from lima.spec.extension_files import as_variable
from lima.spec.extensions import SUFFIX, require_file_name, require_free, require_names
from lima.spec.names import load_file
from lima.store.reachable import POD_PATIENCE_S, require_answer


def meet(cells: Sequence[CellSpec]) -> None:
    """Run the files that a study uses in this process, and see that its names are there.

    Raises:
        ChangedInputError: a file is not what the study was promised; nothing of any ran.
        InputError: a file is not there, has another's name, fails, or lacks a name of the study.
        StorageError: an object store does not answer.

    """
    read = _read(cells)
    for extension, data in read:
        load_file(extension.package, data, extension.path)
    _require_names(cells)


@contextlib.contextmanager
def handed_on(cells: Sequence[CellSpec]) -> Iterator[tuple[Path, ...]]:
    """Do as `meet`, and let the processes that are started meanwhile run the same files.

    Yields where the files lie: each in a folder of its digits, in a folder of this user's alone.
    """
    read = _read(cells, POD_PATIENCE_S)
    if not read:
        _require_names(cells)
        yield ()
        return
    with temporary_folder("lima-extensions-") as folder:
        files = [_kept(folder, extension, data) for extension, data in read]
        with environment(as_variable(map(str, files))):
            for file, (extension, data) in zip(files, read, strict=True):
                load_file(extension.package, data, str(file))
            _require_names(cells)
            yield tuple(files)


def _kept(folder: Path, extension: ExtensionSpec, data: bytes) -> Path:
    file = folder / digits(of_bytes(data)) / f"{extension.package}{SUFFIX}"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    return file


def _read(cells: Sequence[CellSpec], patience_s: float = 0.0) -> list[tuple[ExtensionSpec, bytes]]:
    """Return the files that cells use, each once and all of them checked.

    An object store is given `patience_s` seconds to answer, as `require_answer` has it.
    """
    for extension in dict.fromkeys(e for cell in cells for e in cell.extensions):
        require_file_name(extension.path)
    used = dict.fromkeys(e for cell in cells for e in used_extensions(cell).extensions)
    read = {extension: _bytes(extension, patience_s) for extension in used}
    first: dict[str, tuple[ExtensionSpec, bytes]] = {}
    for extension, data in read.items():
        require_free(extension.path, data)
        other, known = first.setdefault(extension.package, (extension, data))
        if known != data:
            raise SpecError(
                f"extensions: {other.path} and {extension.path} are of one name and of two "
                "contents; give one of them another name, and what it adds"
            )
    return list(first.values())


def _bytes(extension: ExtensionSpec, patience_s: float) -> bytes:
    path = extension.path
    if "://" in path:
        from lima.store.storage import Storage

        require_answer(path, patience_s)  # the store's own library would try for a minute
        folder, _, name = path.rpartition("/")
        data = Storage(folder).read(name)
    else:
        try:
            data = expanded(path).read_bytes()
        except OSError as error:
            raise DataError(
                f"{path}: an extension of the study cannot be read ({error.strerror}); put it "
                "there, or name another with --extension"
            ) from None
    check_bytes(data, extension.fingerprint, path)
    return data


def _require_names(cells: Sequence[CellSpec]) -> None:
    for cell in cells:
        for stage in cell_stages(cell):
            require_names(getattr(cell, stage), stage)
