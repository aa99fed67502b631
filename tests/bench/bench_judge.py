"""How near the judge comes to the rate that its concurrency allows, and to the bare library's."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from lima.judging.run import judge_responses
from lima.runs.progress import Progress
from lima.spec import JudgeSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import JUDGMENTS
from tests.helpers.responses import responded_cell

SERVER = Path(__file__).parents[1] / "helpers" / "judge_server.py"
IN_FLIGHT = 64


@contextlib.contextmanager
def judge_process(delay_s: float, expected: int) -> Iterator[str]:
    """Serve from another process, so that the two do not share an interpreter; yield its URL."""
    command = [sys.executable, str(SERVER), "--delay-s", str(delay_s)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as server:
        assert server.stdin
        assert server.stdout
        yield server.stdout.readline().strip()
        server.stdin.close()
        assert int(server.stdout.read()) == expected


async def ask_bare(url: str, texts: list[str]) -> None:
    """Ask with the client library alone: no rubric, no records, no limits but the number."""
    left = iter(texts)

    async def work(library: openai.AsyncOpenAI) -> None:
        for text in left:
            await library.chat.completions.create(
                model="judge", messages=[{"role": "user", "content": text}]
            )

    http = openai.DefaultAioHttpClient()
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, http_client=http
    ) as library:
        await asyncio.gather(*[work(library) for _ in range(IN_FLIGHT)])


@dataclass(frozen=True)
class Rate:
    """How fast `count` requests were answered, and what that took of this process."""

    count: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    def __str__(self) -> str:
        milliseconds = self.cpu_seconds / self.count * 1000
        return f"{self.per_second:.0f} a second ({milliseconds:.2f} ms of CPU each)"


def measured(count: int, work: Callable[[], object]) -> Rate:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Rate(count, time.perf_counter() - wall, time.process_time() - cpu)


@pytest.mark.bench
@pytest.mark.parametrize(("delay_s", "count"), [(0.05, 6400), (0.5, 1920)])
def test_rate_at_64_in_flight(tmp_path: Path, delay_s: float, count: int) -> None:
    """Print both ratios; the ideal is 64 answers in the time of one."""
    texts = [f"{i} " + "word " * 300 for i in range(count)]
    storage = Storage(str(tmp_path))
    with judge_process(delay_s, expected=count) as url:
        bare = measured(count, lambda: asyncio.run(ask_bare(url, texts)))
    with judge_process(delay_s, expected=count) as url:
        cell = responded_cell(storage, texts, JudgeSpec(base_url=url, concurrency=IN_FLIGHT))
        ours = measured(count, lambda: judge_responses(cell, storage, Progress(storage, "bench")))
    assert RunTable(storage, JUDGMENTS, cell).read(["score"]).num_rows == count
    ideal = IN_FLIGHT / delay_s
    print(
        f"judge, {delay_s * 1000:.0f} ms an answer, {IN_FLIGHT} in flight: {ours}, "
        f"{ours.per_second / ideal:.2f} of the ideal; the bare library: {bare}, "
        f"{bare.per_second / ideal:.2f} of the ideal"
    )
