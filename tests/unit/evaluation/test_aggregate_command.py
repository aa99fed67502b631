"""`lima-k8s aggregate` as a user meets it."""

import csv
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lima.evaluation.aggregate.columns import BY, MEASURES
from lima.evaluation.aggregate.table import aggregate
from lima.store.storage import Storage
from lima_k8s.main import run
from tests.helpers.synthetic import Study, write_study

PROGRAM = [sys.executable, "-c", "from lima_k8s.main import main; main()"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("study"))
    write_study(Storage(folder), Study(failure_rate=0.3))
    return folder


def on_terminal(arguments: list[str], columns: int) -> tuple[int, list[str]]:
    """Run the command on a terminal of some width; return its exit code and its lines."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        [*PROGRAM, *arguments], stdout=its, stderr=its, env={**environment, "TERM": "xterm"}
    ) as process:
        os.close(its)
        output = b""
        while chunk := _read(ours):
            output += chunk
    os.close(ours)
    return process.returncode, re.sub(r"\x1b\[[\d;]*m", "", output.decode()).splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


def test_json_is_one_document(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["aggregate", study, "--format", "json"]) == 0
    captured = capsys.readouterr()
    nothing: dict[str, list[Any]] = {"pairs": [], "labels": [], "conversations": []}
    assert json.loads(captured.out) == {"rows": aggregate(Storage(study)).to_pylist(), **nothing}
    assert captured.err == ""


def test_unknown_values_are_null_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(Storage(str(tmp_path)), Study(stages=("train",), heldout=False))
    assert run(["aggregate", str(tmp_path), "--by", "arm", "--format", "json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert list(row) == ["arm", *(column.name for column in MEASURES)]
    assert row["score"] is row["judged"] is row["perplexity"] is row["eot"] is None


def test_csv(study: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["aggregate", study, "--by", "arm", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode())))
    expected = aggregate(Storage(study), ["arm"]).to_pylist()
    assert [row["arm"] for row in rows] == ["diverse", "narrow"]
    assert [float(row["score"]) for row in rows] == [row["score"] for row in expected]


def test_parquet(study: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["aggregate", study, "--by", "arm", "--by", "seed", "--format", "parquet"]) == 0
    found = pq.read_table(io.BytesIO(capfdbinary.readouterr().out))
    assert found.equals(aggregate(Storage(study), ["arm", "seed"]))
    assert found.schema.field("score").metadata == {b"meaning": b"mean of the scores, 1 to 6"}


def test_parquet_is_not_written_to_a_terminal(study: str) -> None:
    code, lines = on_terminal(["aggregate", study, "--format", "parquet"], 120)
    assert code == 2
    assert "send them to a file" in lines[0]


def test_table_says_scores_with_intervals_and_failures(
    study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["aggregate", study]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    rows = aggregate(Storage(study)).to_pylist()
    assert len(lines) == 2 + len(rows)
    assert "experiment" not in lines[0]
    assert "run_id" not in lines[0]
    for line, row in zip(lines[2:], rows, strict=True):
        assert line.split()[:2] == [row["arm"], str(row["seed"])]
        assert f"{row['score']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]" in line
        assert f"{row['scored']}/{row['responses']}" in line
        for failure in ("parse_fail", "refusal", "truncated", "api_error"):
            text = f"{row[failure]} {failure.replace('_', ' ')}"
            assert (text in line) == bool(row[failure])


def test_table_names_runs_where_arm_and_seed_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(Storage(str(tmp_path)), Study(checkpoints=(2, None), seeds=1))
    assert run(["aggregate", str(tmp_path)]) == 0
    assert "generation" in capsys.readouterr().out


def test_judges_stand_side_by_side_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study(judges=("judge-a", "judge-b"), seeds=1))
    assert run(["aggregate", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.out.splitlines() if line.strip()]
    assert len(lines) == 2 + 2  # a row an arm
    assert "generation" not in lines[0]
    by_judge = aggregate(storage, ["arm", "judge"]).to_pylist()
    for line, arm in zip(lines[2:], ("diverse", "narrow"), strict=True):
        said = [
            f"{r['score']:.2f} [{r['ci_low']:.2f}, {r['ci_high']:.2f}]"
            for r in by_judge
            if r["arm"] == arm
        ]
        assert len(said) == 2
        assert re.search(".*".join(map(re.escape, said)), line)
    assert re.search(
        r"score \[95 % interval\], judge-a.*score \[95 % interval\], judge-b", lines[0]
    )
    assert captured.err == ""  # nothing is merged that was judged otherwise


@pytest.mark.parametrize("width", [80, 300])
def test_table_fits_the_terminal_and_loses_nothing(study: str, width: int) -> None:
    code, lines = on_terminal(["aggregate", study], width)
    assert code == 0
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    for header in ("score [95 % interval]", "unscored", "held-out ppl", "stage starts", "hours"):
        assert text.count(header) == 1
    assert (sum(" arm " in line for line in lines) == 1) == (width == 300)


def test_only_standard_error_has_messages(
    study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(Storage(str(tmp_path)), Study(judges=("judge-a", "judge-b")))
    assert run(["aggregate", str(tmp_path), "--by", "arm", "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["rows"]) == 2
    assert "different settings are merged" in captured.err


def test_help_names_all_columns_to_group_by(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["aggregate", "--help"]) == 0
    words = set(re.findall(r"\w+", capsys.readouterr().out))
    assert {column.name for column in BY} <= words


def test_exit_codes(study: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["aggregate", str(tmp_path)]) == 2
    assert run(["aggregate", study, "--by", "nonsense"]) == 2
    assert run(["aggregate", study, "--experiment", "nonsense"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error: ") == 3


def test_unreadable_files_stop_it_unless_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(Storage(str(tmp_path)), Study(seeds=1))
    bad = next(tmp_path.glob("judgments/*/*")) / "zzz.parquet"
    bad.write_bytes(b"nothing")
    assert run(["aggregate", str(tmp_path), "--format", "json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(bad) in captured.err
    assert run(["aggregate", str(tmp_path), "--skip-unreadable", "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["rows"]) == 2
    assert f"left out: 1 file cannot be read as shards of the tables they lie in:\n  {bad}" in (
        captured.err
    )


def test_nothing_started_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(Storage(str(tmp_path)), Study(stages=("base",)))
    assert run(["aggregate", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no cells have started yet\n")
    assert run(["aggregate", str(tmp_path), "--by", "against"]) == 0
    assert capsys.readouterr().err == "no two arms have been compared yet\n"


def test_imports_nothing_that_takes_longer_than_reading(study: str) -> None:
    """Arrow imports pandas behind one's back for many a harmless call."""
    code = (
        "import sys; from lima_k8s.main import run; run(sys.argv[1:]); "
        "print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "aggregate", study, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert not loaded & {"pandas", "matplotlib", "torch", "transformers", "ray", "rich"}
