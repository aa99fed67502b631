"""The programs that make parts of a release."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None) -> str:
    """Run a program in `folder`, or here, and return what it wrote.

    Raises:
        SystemExit: it failed; with what it said.

    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        said = f"{done.stdout}{done.stderr}"
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{said}")
    return done.stdout
