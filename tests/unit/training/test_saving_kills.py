"""SIGKILL at random moments of background saving: nothing is lost, nothing is half there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SEEDS = 30


def test_a_kill_leaves_the_last_whole_state(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.helpers.processes.saving_child",
        str(tmp_path),
        str(SEEDS),
    ]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found = [json.loads(line) for line in printed.splitlines()]
    assert len(found) == SEEDS
    for kill in found:
        # At most the one whose manifest was written but not yet told.
        assert kill["told"] <= kill["step"] <= kill["told"] + 1
        assert kill["step"] == kill["committed"][-1], "the newest that counts is whole"
        assert kill["used"] == [kill["step"]]
        assert kill["values"] == [kill["step"]]
        assert kill["left"] == kill["committed"], "what is half there goes"
    assert len({kill["step"] for kill in found}) > 1, "at different moments"
