"""The wheel and the source distribution."""

import subprocess
import sys
from pathlib import Path


def build_python_packages(tree: Path, out: Path, environment: dict[str, str]) -> None:
    """Write the wheel and the sdist of `tree` to `out`; Hatchling heeds SOURCE_DATE_EPOCH."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(out)],
        cwd=tree,
        env=environment,
        check=True,
        capture_output=True,
    )
