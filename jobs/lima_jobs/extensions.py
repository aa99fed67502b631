"""The Python files of a study's own, in a job: whether it may run them, and where they lie."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lima.common.variables import ALLOW_EXTENSIONS
from lima.errors import InputError
from lima.inputs.extensions import handed_on
from lima.spec import CellSpec, used_extensions
from lima_jobs.machines import in_cluster


@contextlib.contextmanager
def extension_files(cells: Sequence[CellSpec]) -> Iterator[tuple[Path, ...]]:
    """Run the files that cells use, as `lima.inputs.extensions.handed_on` does.

    Raises:
        InputError: this cluster does not allow it; nothing of any ran.

    """
    used = {e.path for cell in cells for e in used_extensions(cell).extensions}
    if used and in_cluster() and os.environ.get(ALLOW_EXTENSIONS) != "1":
        raise InputError(
            f"{', '.join(sorted(used))}: this cluster runs no Python files of a study's own; ask "
            "the platform team for cluster.extensions: true in its profile, or for an image with "
            "your package"
        )
    with handed_on(cells) as files:
        yield files
