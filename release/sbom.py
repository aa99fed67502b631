"""What is installed with the package, as CycloneDX: from the locks, with all hashes."""

import sys
from pathlib import Path

from release.programs import run

LOCKS = ("cli", "jobs", "vllm")
"""The command line alone, what all images hold, and what the image of vLLM holds beside that."""


def write_sboms(tree: Path, out: Path, stem: str, environment: dict[str, str]) -> None:
    """Write a bill of materials for each lock to `out`, as `STEM-LOCK.cdx.json`."""
    for lock in LOCKS:
        # Quiet: it warns that a lock does not say which of its packages need which.
        program = [sys.executable, "-W", "ignore::UserWarning", "-m", "cyclonedx_py"]
        run(
            [
                *program,
                "requirements",
                "--output-reproducible",
                "--pyproject",
                str(tree / "pyproject.toml"),
                "--output-file",
                str(out / f"{stem}-{lock}.cdx.json"),
                str(tree / "requirements" / f"{lock}.lock.txt"),
            ],
            environment,
        )
