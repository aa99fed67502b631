"""`aggregate` over 1,000,000 judgments in 2,000 shards against the same query in DuckDB.

pytest tests/bench/bench_aggregate.py -s
python tests/bench/bench_aggregate.py [FOLDER]    # keeps the study in FOLDER for the next time
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROWS, SHARDS, ARMS, SEEDS = 1_000_000, 2_000, 5, 4
ROUNDS = 9
GOAL, GOAL_MB = 1.5, 500
COLUMNS = ("judged", "scored", "parse_fail", "refusal", "truncated", "api_error", "score", "cost")

QUERY = """
with judged as (
    select arm, seed, prompt_key, status, score, cost, final
    from read_parquet('{folder}/judgments/*/*/*.parquet', hive_partitioning = true)
),
clusters as (
    select arm, seed, prompt_key, count(score) n, sum(score) s
    from judged where final and status = 'ok' group by all
),
means as (select arm, seed, sum(s) / sum(n) mean, sum(n) total from clusters group by all),
intervals as (
    select arm, seed, any_value(mean) score,
        sqrt(count(*) / (count(*) - 1.0) * sum((s - mean * n) ** 2)) / any_value(total) error
    from clusters join means using (arm, seed) group by all
),
counts as (
    select arm, seed, count(*) filter (final) judged,
        count(*) filter (final and status = 'ok') scored,
        count(*) filter (final and status = 'parse_fail') parse_fail,
        count(*) filter (final and status = 'refusal') refusal,
        count(*) filter (final and status = 'truncated') truncated,
        count(*) filter (final and status = 'api_error') api_error,
        sum(cost) cost
    from judged group by all
)
select arm, seed, {columns} from counts join intervals using (arm, seed) order by arm, seed
"""
PEER = "import duckdb, sys; duckdb.execute(sys.argv[1]).fetchall()"


def query(folder: str) -> str:
    return QUERY.format(folder=folder, columns=", ".join(COLUMNS))


def write_study(folder: str) -> None:
    from lima.store.storage import Storage
    from tests.bench.judgments import write_many_judgments

    if not (Path(folder) / "judgments").exists():
        write_many_judgments(Storage(folder), ROWS, SHARDS, ARMS, SEEDS)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run_process(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def peak_mb(command: list[str]) -> float:
    """Run a command; return its peak memory. Not its ru_maxrss, which begins with its parent's."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            peak = int(found[1]) if found else peak
            time.sleep(0.005)
    assert process.returncode == 0
    return peak / 1024


def ratio(own: Callable[[], Any], peer: Callable[[], Any]) -> tuple[float, str]:
    """Return the median of the ratios; a round runs both, so that load weighs on both."""
    pairs = [(seconds(own), seconds(peer)) for _ in range(ROUNDS)]
    middle = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    return middle, f"{a:.2f} s, DuckDB {b:.2f} s, ratio {middle:.2f} (goal: at most {GOAL:g})"


def measure(folder: str) -> dict[str, float]:
    """Compare calls and whole processes over the study in `folder`; print and return ratios."""
    import duckdb

    from lima.evaluation.aggregate.table import aggregate_rows
    from lima.store.storage import Storage

    write_study(folder)
    rows = aggregate_rows(Storage(folder))
    expected = duckdb.execute(query(folder)).fetchall()
    assert len(rows) == len(expected) == ARMS * SEEDS
    for row, values in zip(rows, expected, strict=True):
        assert (row["arm"], row["seed"]) == values[:2]
        assert [row[c] for c in COLUMNS] == pytest.approx(values[2:], rel=1e-9)
    calls, text = ratio(
        lambda: aggregate_rows(Storage(folder)), lambda: duckdb.execute(query(folder)).fetchall()
    )
    print(f"\ncalls:     {text}")
    own = [str(Path(sys.executable).with_name("lima-k8s")), "aggregate", folder, "--format", "json"]
    peer = [sys.executable, "-c", PEER, query(folder)]
    processes, text = ratio(lambda: run_process(own), lambda: run_process(peer))
    print(f"processes: {text}")
    memory = peak_mb(own)
    print(f"memory:    {memory:.0f} MB, DuckDB {peak_mb(peer):.0f} MB (goal: {GOAL_MB} MB)")
    return {"calls": calls, "processes": processes, "memory_mb": memory}


@pytest.mark.bench
def test_aggregate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        measured = measure(str(tmp_path))
    assert measured["calls"] <= GOAL
    assert measured["processes"] <= GOAL
    assert measured["memory_mb"] < GOAL_MB


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(measure(sys.argv[1] if len(sys.argv) > 1 else temporary)))
