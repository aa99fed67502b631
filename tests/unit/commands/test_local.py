"""`submit --local`: what is refused before the start, and what is said at the end."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lima.common.variables import KEY_NAMES
from lima.errors import InputError, Interrupted, LimaError, ModelError, StorageError
from lima.recipes.registry import load_study
from lima.runs.done import is_done, mark_done
from lima.runs.job_end import CellEnd, JobEnd
from lima.runs.progress import DONE, Progress, read_progress
from lima.spec import CellSpec, JudgeSpec, stage_cell
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from lima_k8s.local.display import CellState, _line
from lima_k8s.local.run import LocalRun, failure
from lima_k8s.main import run
from lima_k8s.terminal import storage_look as looking
from lima_k8s.terminal.storage_look import Looker

LOG = Path("study/logs/local.log")
STAMP = "2026-01-02 03:04:05,678"
DIVERGES = "training diverges: step 3 has loss nan"
FAILED = CellEnd.of("0123456789abcdef", "howto-32 seed 1", ModelError(DIVERGES))
STOPPED = CellEnd.of("fedcba9876543210", "howto-32 seed 0", Interrupted("after step 2"))


def ended(error: LimaError, *cells: CellEnd) -> list[str]:
    """Return what a job logs that ends so."""
    return [f"{STAMP} ERROR {error}", JobEnd.of(error, cells).line, "a warning at exit"]


def judged(**judge: str) -> CellSpec:
    (cell,) = load_study("tiny", arms=["howto-32"], seeds=[0])
    return replace(cell, judge=JudgeSpec(**judge))  # type: ignore[arg-type]


def test_an_error_is_said_once() -> None:
    error = failure(2, ended(ModelError(DIVERGES), FAILED), LOG, stopped=False)
    assert str(error) == (
        f"the study did not finish:\n  0123456789abcdef: howto-32 seed 1: {DIVERGES}\n  log: {LOG}"
    )
    assert error.exit_code == 2


def test_a_cell_that_was_stopped_does_not_hide_one_that_failed() -> None:
    error = failure(2, ended(ModelError(DIVERGES), STOPPED, FAILED), LOG, stopped=True)
    assert not isinstance(error, Interrupted)
    assert DIVERGES in str(error)
    assert "after step 2" not in str(error)
    assert "the rest was stopped; finished work is kept" in str(error)
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("code", "lines", "stopped"),
    [
        (1, ended(Interrupted("after step 2"), STOPPED), True),
        (1, ended(Interrupted("before"), STOPPED), False),  # by the file that asks a job to stop
        (-signal.SIGTERM, [], True),  # before the job could heed it
        (-signal.SIGKILL, [f"{STAMP} INFO x"], True),  # by the second ctrl-C
    ],
)
def test_a_stop_is_no_failure(code: int, lines: list[str], stopped: bool) -> None:
    error = failure(code, lines, LOG, stopped=stopped)
    assert isinstance(error, Interrupted)
    assert "the same command goes on" in str(error)
    assert str(LOG) in str(error)


def test_a_failure_that_only_speaks_of_a_stop_is_one() -> None:
    error = failure(1, ended(LimaError("stopped on request")), LOG, stopped=False)
    assert not isinstance(error, Interrupted)
    assert "stopped on request" in str(error)


def test_a_job_that_dies_without_a_word_shows_its_last_lines() -> None:
    error = failure(-signal.SIGKILL, [f"line {i}" for i in range(50)], LOG, stopped=False)
    assert not isinstance(error, Interrupted)
    assert "the job was ended by SIGKILL" in str(error)
    assert "line 49" in str(error)
    assert "line 2\n" not in str(error)
    assert error.exit_code == 1


def test_a_judge_without_its_key_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    cell = judged(base_url="https://8.8.8.8/v1")
    with pytest.raises(InputError, match=r"needs a key: put it into .* OPENAI_API_KEY"):
        LocalRun([cell], str(tmp_path)).plan()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    assert LocalRun([cell], str(tmp_path)).plan()[0].endswith("to run")


def test_a_judge_on_this_machine_needs_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    cell = judged(base_url="http://127.0.0.1:8000/v1")
    assert LocalRun([cell], str(tmp_path)).plan()[0].endswith("to run")


def test_a_cell_that_is_done_is_looked_at_once_and_needs_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    cell, storage = judged(base_url="https://8.8.8.8/v1"), Storage(str(tmp_path))
    mark_done(storage, cell)
    local = LocalRun([cell], str(tmp_path))
    assert local.plan()[0].endswith("finished already")
    storage.delete_tree("progress")
    assert local.plan()[0].endswith("finished already")


def test_responses_without_a_score_are_told_when_all_is_done(tmp_path: Path) -> None:
    cell, storage = judged(base_url="http://127.0.0.1:8000/v1"), Storage(str(tmp_path))
    progress = Progress(storage, run_id(cell))
    progress.update("judge", 40, 40, "responses", force=True, failed=38, cost=0.0)
    mark_done(storage, cell)
    record = read_progress(storage, run_id(cell))
    assert record
    state = CellState(run_id(cell), "lima seed 0", record)
    assert (state.done, state.figures) == (True, "38 of 40 responses unscored")
    assert is_done(storage, cell)
    mark_done(storage, cell)
    assert read_progress(storage, run_id(cell))["figures"] == record["figures"]  # type: ignore[index]


def test_a_key_of_another_name_is_allowed_by_whoever_submits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(KEY_NAMES, "")
    named = ["--recipe", "tiny", "--set", "judge.api_key_env=JUDGE_PASS"]
    local = [*named, "--local", "--dry-run", "--storage", str(tmp_path)]
    url = ["--set", "judge.base_url=http://127.0.0.1:1/v1", "--set", "judge.model=m"]
    assert run(["submit", "judge", *local, *url]) == 2
    assert "--allow-key JUDGE_PASS" in capsys.readouterr().err
    assert run(["submit", "judge", *local, *url, "--allow-key", "JUDGE_PASS"]) == 0
    assert run(["submit", "judge", *named, *url, "--allow-key", "JUDGE_PASS"]) == 2
    assert "in its Secret" in capsys.readouterr().err


def test_a_baseline_needs_its_key_until_it_has_responses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (cell,) = load_study(
        "tiny", ["generate.model.path=endpoint:https://8.8.8.8/v1#m"], ["howto-32"], [0]
    )
    with pytest.raises(InputError, match=r"another one in generate\.endpoint\.api_key_env"):
        LocalRun([cell], str(tmp_path)).plan()
    shard = RunTable(Storage(str(tmp_path)), GENERATIONS, stage_cell(cell, "generate")).path("s")
    Storage(str(tmp_path)).write(shard, b"")
    assert LocalRun([cell], str(tmp_path)).plan()[0].endswith("to run")


def test_a_cell_whose_results_were_taken_away_is_not_done(tmp_path: Path) -> None:
    (cell,) = load_study("tiny", arms=["howto-32"], seeds=[0])
    storage = Storage(str(tmp_path))
    shard = RunTable(storage, GENERATIONS, stage_cell(cell, "generate")).path("shard")
    storage.write(shard, b"")
    mark_done(storage, cell)
    assert LocalRun([cell], str(tmp_path)).plan()[0].endswith("finished already")
    storage.delete(shard)
    assert LocalRun([cell], str(tmp_path)).plan()[0].endswith("to run")


def test_the_figures_of_a_done_cell_are_of_no_interest() -> None:
    record = {"stage": DONE, "figures": {"holds": {"generate.generations": 1}}}
    assert CellState("run", "name", record).figures == ""


@pytest.mark.parametrize("where", ["file/study", "/proc/no/such"])
def test_a_storage_that_cannot_be_written_is_exit_code_3(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert (
        run(["submit", "train", "--local", "--recipe", "tiny", "--storage", f"{tmp_path / where}"])
        == 3
    )
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: ")
    assert str(tmp_path / where) in message


def test_the_message_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(StorageError, match=r"cannot be written .* give --storage a folder"):
        LocalRun(load_study("tiny"), str(tmp_path)).run()


def test_ctrl_c_in_the_first_moment_is_a_stop(tmp_path: Path) -> None:
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", f"{heed}; from lima_k8s.main import main; main()"),
            *("submit", "train", "--local", "--recipe", "tiny", "--storage", str(tmp_path)),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("log: "):
            process.send_signal(signal.SIGINT)
            break
    said += process.stderr.readlines()
    assert process.wait() == 1, "".join(said)
    assert "error: stopped; finished work is kept, the same command goes on\n" in said


def test_warnings_are_said_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = ["--set", "generate.decoding.top_k=50", "--arm", "howto-32"]
    storage = ["--storage", str(tmp_path)]
    arguments = ["submit", "generate", "--local", "--recipe", "tiny", "--dry-run"]
    assert run([*arguments, *change, *storage]) == 0
    said = capsys.readouterr()
    lines = said.err.splitlines()
    warned = [line for line in lines if line.startswith("warning: ")]
    assert (
        "warning: generate.decoding.top_k: only the 50 likeliest tokens are sampled; the paper "
        "has no such limit; --set generate.decoding.top_k=0"
    ) in warned
    assert lines[: len(warned)] == warned
    assert said.out.splitlines()[0].endswith("to run")


def test_a_plan_for_machines_is_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["submit", "ablation", "--local", "--recipe", "tiny", "--storage", str(tmp_path)]
    assert run([*arguments, "--seed", "1", "--dry-run", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["storage"] == str(tmp_path)
    assert [(cell["arm"], cell["seed"], cell["finished"]) for cell in document["runs"]] == [
        ("diverse-32", 1, False),
        ("howto-32", 1, False),
    ]


def test_a_storage_that_is_silent_is_told_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(looking, "SAY_AFTER_S", 0.01)
    answers, seen = threading.Event(), list[str]()

    def look() -> str:
        answers.wait()
        return "news"

    said = ""
    with Looker(look, seen.append, 0, "storage s3://b/p") as looker:
        while "s3://b/p has not answered since" not in said:
            looker.tell()
            said += capsys.readouterr().err
        assert seen == []
        answers.set()
        looker.finish()
        while not seen:
            looker.tell()
    assert set(seen) == {"news"}


def test_a_storage_that_fails_is_told_with_its_first_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(looking, "SAY_AFTER_S", 0.05)
    reasons = [f"reason {number}" for number in range(1000)]

    def look() -> str:
        time.sleep(0.001)
        raise StorageError(reasons.pop(0))

    with Looker(look, lambda _: None, 0, "storage") as looker:
        said = ""
        while not said:
            looker.tell()
            said = capsys.readouterr().err
    assert said.rstrip().endswith("UTC: reason 0")


def test_a_look_that_fails_is_no_news() -> None:
    asked: list[int] = []

    def look() -> int:
        asked.append(0)
        if len(asked) % 2:
            raise StorageError("away")
        return len(asked)

    seen: list[int] = []
    with Looker(look, seen.append, 0, "storage") as looker:
        while not seen:
            looker.tell()
    assert seen[0] == 2


def test_a_stage_that_runs_share_is_shown_as_theirs(tmp_path: Path) -> None:
    cells = load_study("tiny")
    reporter, storage = cells[-1], Storage(str(tmp_path))
    Progress(storage, run_id(reporter)).update("base", 3, 133, "steps", force=True)
    states = LocalRun(cells, str(tmp_path))._states()
    assert [(s.stage, s.record["done"]) for s in states] == [("base", 3)] * 4
    lines = {_line(state) for state in states}
    assert [line.text for line in lines] == ["4 runs: base 3/133 steps"]
    # A cell that is further, or alone, speaks for itself.
    Progress(storage, run_id(cells[0])).update("train", 1, 20, "steps", force=True)
    states = LocalRun(cells, str(tmp_path))._states()
    assert [s.stage for s in states] == ["train", "base", "base", "base"]
    (alone,) = LocalRun([reporter], str(tmp_path))._states()
    assert _line(alone).text == "howto-32 seed 1: base 3/133 steps"


def test_the_time_left_is_told() -> None:
    at = datetime.now(UTC)
    since = {"done": 2, "at": (at - timedelta(minutes=10)).isoformat()}
    record = {"stage": "train", "done": 12, "total": 24, "unit": "steps", "at": at.isoformat()}
    told = CellState("r", "a seed 0", {**record, "since": since, "figures": {"loss": 1.5}})
    assert _line(told).text == "a seed 0: train 12/24 steps  12 min left  loss 1.5"


def test_the_demo_ends_with_what_to_do_next() -> None:
    root = Path(__file__).parents[3]
    told = subprocess.run(
        ["make", "-n", "demo"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    last = told[told.index("The page is above") :]
    for next_step in ("/activate", "lima-k8s chat ", "lima-k8s annotate "):
        assert next_step in last
