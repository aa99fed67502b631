"""Start of the command line against `kubectl version --client`, as whole processes.

pytest tests/bench/bench_startup.py -s
"""

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROUNDS = 25
GOAL = 4.0
LIMA = str(Path(sys.executable).with_name("lima-k8s"))
KUBECTL = ["kubectl", "version", "--client"]
COMMANDS = {
    "lima-k8s --help": [LIMA, "--help"],
    "lima-k8s show lima_65b": [LIMA, "show", "lima_65b"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


@pytest.mark.bench
@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is the yardstick; install it")
@pytest.mark.parametrize("name", COMMANDS)
def test_start(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Each round measures both, so that whatever else the machine does weighs on both.
    pairs = [(seconds(COMMANDS[name]), seconds(KUBECTL)) for _ in range(ROUNDS)]
    own, yardstick = (statistics.median(column) for column in zip(*pairs, strict=True))
    with capsys.disabled():
        print(
            f"\n{name}: {own * 1000:.0f} ms, kubectl: {yardstick * 1000:.0f} ms, "
            f"ratio {own / yardstick:.2f} (goal: at most {GOAL:g})"
        )
    assert own / yardstick <= GOAL
