"""A release that is built once for all tests of this folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.charts.tools import BIN, ROOT, program


def make_dist(out: Path, **environment: str) -> Path:
    """Build a release in `out`, as `make dist` does; return `out`."""
    program("helm")
    own = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **environment}
    command = [sys.executable, "-m", "release", str(out), "--url", "https://example.com/v"]
    done = subprocess.run(command, cwd=ROOT, env=own, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a release."""
    return make_dist(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    """Return the wheel of the release."""
    (found,) = dist.glob("*.whl")
    return found
