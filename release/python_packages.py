"""The wheel and the source distribution."""

import sys
from pathlib import Path

from release.programs import run


def build_python_packages(tree: Path, out: Path, environment: dict[str, str]) -> None:
    """Write the wheel and the sdist of `tree` to `out`; Hatchling heeds SOURCE_DATE_EPOCH."""
    hatchling = [sys.executable, "-m", "hatchling", "build"]
    run([*hatchling, "-t", "sdist", "-t", "wheel", "-d", str(out)], environment, tree)
