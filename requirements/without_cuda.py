"""Lets this Python's torch be imported without the CUDA libraries that `cuda.txt` leaves out.

    .venv/bin/python requirements/without_cuda.py

PyPI's torch for Linux is linked with 3 GB of libraries that a machine without a GPU never calls,
and does not start without them. It does where they resolve to an empty library, as long as their
functions are looked up when they are called and not when torch is loaded. torch ships an empty
library of its own. Real libraries that are installed later are found first.
"""

import importlib.util
import sysconfig
from pathlib import Path

EMPTY = "libtorch_global_deps.so"
"""It has no functions, and only asks for libraries that torch loads anyway."""
NEVER_CALLED = (
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcudnn.so.9",
    "libcufft.so.12",
    "libcufile.so.0",
    "libcupti.so.13",
    "libcusparse.so.12",
    "libcusparseLt.so.0",
    "libnccl.so.2",
    "libnvrtc.so.13",
)
LAZY = "import os, sys; sys.setdlopenflags(os.RTLD_LAZY)\n"
"""Read by each Python at its start, as a line of a .pth file."""


def main() -> None:
    """Link the empty library by the names of those that are missing."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise SystemExit("no torch here: install requirements/*.lock.txt first")
    libraries = Path(spec.origin).parent / "lib"
    if not (libraries / "libtorch_cuda.so").exists():
        return  # a torch without CUDA, as on macOS
    for name in NEVER_CALLED:
        link = libraries / name
        link.unlink(missing_ok=True)
        link.symlink_to(EMPTY)
    site = Path(sysconfig.get_path("purelib"))
    (site / "torch_without_cuda.pth").write_text(LAZY, "utf-8")


if __name__ == "__main__":
    main()
