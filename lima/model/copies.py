"""Which files of a saved model are copied to a machine, and that only one worker copies them."""

import contextlib
import logging
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from lima.common.filelock import held

log = logging.getLogger(__name__)
OTHER_WEIGHTS = {
    ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".ggml", ".onnx", ".tflite", ".ot",
}  # fmt: skip
"""Formats that hold the same weights once more, beside safetensors."""


def needed_files(names: Collection[str]) -> set[str]:
    """Return what transformers reads of a saved model: its weights once, and all that is small."""
    paths = {name: PurePosixPath(name) for name in names}
    tensors = {name for name, path in paths.items() if path.suffix == ".safetensors"}
    if not tensors:
        return set(names)
    # Mistral's own layout lies beside that of transformers.
    doubles = {name for name in tensors if paths[name].name.startswith("consolidated")}
    if doubles == tensors:
        doubles = set()
    return {n for n, path in paths.items() if path.suffix not in OTHER_WEIGHTS} - doubles


@contextlib.contextmanager
def one_at_a_time(file: Path, doing: str) -> Iterator[None]:
    """Hold the lock `file` of this machine; a process that is killed lets it go.

    Args:
        file: Made if it is not there; it stays.
        doing: What another process is waited for to do, for the log.

    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(file, wait=False))
        except BlockingIOError:
            log.info("waiting for another worker of this machine, which %s", doing)
            stack.enter_context(held(file))
        yield
