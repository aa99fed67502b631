"""Checks of what a study is called: its name is a folder's on storage."""

from collections.abc import Iterator

from lima.common.paths import experiment_folders
from lima.lint.facts import Facts
from lima.lint.finding import Check, Finding
from lima.spec import CellSpec

MOST = 255
"""Bytes of a file's name, on the file systems that people have."""


def check_experiment(cell: CellSpec, facts: Facts) -> Iterator[Finding]:  # noqa: ARG001
    """Check that a folder can be named after the experiment."""
    folder = experiment_folders(cell.experiment)[0]
    if (bytes_ := len(folder.encode())) > MOST:
        yield Finding(
            "error",
            "experiment",
            f"as the name of a folder ({folder[:24]}…) it takes {bytes_} bytes, and file systems "
            f"have room for {MOST}",
            "shorten it: --set experiment=NAME; outside of ASCII a letter takes 6 to 12 bytes",
        )


NAME_CHECKS: tuple[Check, ...] = (check_experiment,)
