"""`status`, `watch` and `logs` of a study on this machine: while it runs, and when it ended."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec, ModelSpec
from lima.spec.codec import encode
from tests.helpers.judge_server import JudgeServer, Reply, running

CODE = "import sys; from lima_k8s.main import run; sys.exit(run(sys.argv[1:]))"
PROMPTS = 4


class Study:
    """Responses that were made elsewhere, and a judge whose answers a test lets through."""

    def __init__(self, folder: Path, server: JudgeServer) -> None:
        self.storage, self.recipe = folder / "results", folder / "study.json"
        lines = [json.dumps({"conversations": [f"What is {i}?"]}) for i in range(PROMPTS)]
        (folder / "prompts.jsonl").write_text("\n".join(lines), "utf-8")
        given = [{"prompt": f"What is {i}?", "response": f"It is {i}."} for i in range(PROMPTS)]
        (folder / "made.jsonl").write_text("\n".join(map(json.dumps, given)), "utf-8")
        model = ModelSpec(f"responses:{folder / 'made.jsonl'}")
        generate = GenerateSpec(DataSpec(str(folder / "prompts.jsonl")), model)
        judge = JudgeSpec(base_url=server.base_url, concurrency=1, attempts=1)
        cell = CellSpec("study", "made", generate=generate, judge=judge)
        self.recipe.write_text(json.dumps({"runs": [encode(cell)]}), "utf-8")

    def submit(self) -> "subprocess.Popen[str]":
        """Start the study as in another terminal."""
        return self._command("submit", "judge", "--local", "--recipe", str(self.recipe))

    def call(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = self._command(*arguments)
        out, said = command.communicate()
        return subprocess.CompletedProcess(command.args, command.returncode, out, said)

    def status(self) -> dict[str, Any]:
        (found,) = json.loads(self.call("status", "--format", "json").stdout)["runs"]
        return dict(found)

    def _command(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", CODE, *arguments, "--storage", str(self.storage)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def study(tmp_path: Path, server: JudgeServer) -> Study:
    return Study(tmp_path, server)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with running() as judge:
        yield judge


def await_judging(study: Study) -> None:
    """Ask until the run is being judged."""
    while True:
        found = study.call("status", "--format", "json")
        if found.returncode == 0 and (runs := json.loads(found.stdout)["runs"]):
            (run,) = runs
            if run["state"] == "running" and (run["progress"] or {}).get("stage") == "judge":
                return


@pytest.mark.slow
def test_a_study_in_another_terminal(study: Study, server: JudgeServer) -> None:
    slow = Reply(delay_s=600)
    server.answer = lambda request: Reply() if request.number <= 2 else slow
    job = study.submit()
    try:
        await_judging(study)
        run = study.status()
        assert (run["arm"], run["stage_starts"]) == ("made", 2)
        shown = study.call("status").stdout
        assert re.search(rf"{run['run_id']}\s+made\s+0\s+running\s+judge \d/4 responses", shown)
        # A second one is refused before it starts a job, and takes nothing from the first.
        refused = study.submit()
        assert "is being worked on by process" in refused.communicate()[1]
        assert (refused.returncode, study.status()["state"]) == (2, "running")
        assert len(list((study.storage / "jobs").iterdir())) == 1
        explained = study.call("explain", run["run_id"]).stdout
        assert (
            f"reads:    generate.prompts: {study.recipe.parent}/prompts.jsonl, sha256:" in explained
        )
        log = study.call("logs", run["run_id"][:6]).stdout
        assert f"{run['run_id']}: made seed 0: judge" in log
        cancelled = study.call("cancel", "made/0", "--yes", "--wait")
        assert (cancelled.returncode, cancelled.stdout) == (0, "")
        assert f"stopping {run['run_id']}" in cancelled.stderr
    finally:
        job.terminate()
        said = job.communicate()[1]
    assert "stopped; finished work is kept" in said
    stopped = study.status()
    assert (stopped["state"], stopped["cause"]) == ("stopped", None)

    server.answer = lambda _: Reply()
    assert study.submit().wait() == 0
    done = study.status()
    assert (done["state"], done["stage_starts"], done["run_id"]) == ("done", 3, run["run_id"])
    assert study.call("watch").returncode == 0
    assert "no runs to cancel" in study.call("cancel", "--all", "--yes").stderr


@pytest.mark.slow
def test_a_study_that_failed(study: Study, server: JudgeServer) -> None:
    server.answer = lambda _: Reply(status=404, raw='{"error": {"message": "no such model"}}')
    job = study.submit()
    job.communicate()
    run = study.status()
    assert (run["state"], run["cause"]["name"]) == ("failed", "run-failed")
    assert "judge.model" in run["cause"]["what"]
    followed = study.call("watch")
    assert followed.returncode == 1
    assert "no such model" in followed.stderr
    assert "no such model" in study.call("logs", "made/0").stdout
    explained = study.call("explain", "made/0").stdout
    assert f"{run['run_id']}: failed: run-failed: " in explained
    assert "submit it again" in explained


def test_what_names_no_run(study: Study) -> None:
    none = study.call("status")
    assert none.returncode == 0
    assert f"no runs in {study.storage}" in none.stderr
    unknown = study.call("logs", "made/0")
    assert unknown.returncode == 2
    assert f"there are no runs in {study.storage}" in unknown.stderr
    both = study.call("status", "-n", "lima")
    assert both.returncode == 2
    assert "leave out --context and -n" in both.stderr
