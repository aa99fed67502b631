"""How near the judge comes to the rate that its concurrency allows."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lima.judging.run import judge_responses
from lima.progress import Progress
from lima.results import JUDGMENTS
from lima.shards import RunTable
from lima.spec import JudgeSpec
from lima.storage import Storage
from tests.responses import responded_cell

SERVER = Path(__file__).parents[1] / "judge_server.py"
CONCURRENCY = 64


@pytest.mark.bench
@pytest.mark.parametrize(("delay_s", "count"), [(0.05, 6400), (0.5, 1920)])
def test_rate_at_64_in_flight(tmp_path: Path, delay_s: float, count: int) -> None:
    """Prints the ratio to the ideal rate, 64 answers in the time of one."""
    storage = Storage(str(tmp_path))
    command = [sys.executable, str(SERVER), "--delay-s", str(delay_s)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as server:
        assert server.stdin
        assert server.stdout
        spec = JudgeSpec(base_url=server.stdout.readline().strip(), concurrency=CONCURRENCY)
        cell = responded_cell(storage, [f"{i} " + "word " * 300 for i in range(count)], spec)
        started, worked = time.perf_counter(), time.process_time()
        judge_responses(cell, storage, Progress(storage, "bench"))
        seconds, worked = time.perf_counter() - started, time.process_time() - worked
        server.stdin.close()
        asked = int(server.stdout.read())
    judged = RunTable(storage, JUDGMENTS, cell).read(["score"]).num_rows
    assert asked == judged == count
    ideal = CONCURRENCY / delay_s
    print(
        f"judge, {delay_s * 1000:.0f} ms an answer, {CONCURRENCY} in flight: "
        f"{count / seconds:.0f} of {ideal:.0f} a second = {count / seconds / ideal:.2f}, "
        f"{worked / count * 1000:.2f} ms of CPU each"
    )
