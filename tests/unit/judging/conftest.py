"""What all tests of judges need: no waiting between tries, and a stop that is theirs alone."""

from pathlib import Path

import pytest

from lima.common.variables import STOP_FILE
from lima.endpoints import client


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let tries follow each other at once; nobody else's stop is heard."""
    monkeypatch.setattr(client, "BACKOFF_S", 0.001)
    monkeypatch.setenv(STOP_FILE, str(tmp_path / "stop"))
