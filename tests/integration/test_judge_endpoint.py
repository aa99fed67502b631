"""`submit judge --local` against an endpoint that fails in every way it can."""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.common.variables import STOP_FILE
from lima.inputs.content import Contents
from lima.preparing.prepare import prepare
from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec, ModelSpec
from lima.spec.codec import encode
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import JUDGMENTS
from tests.helpers.judge_server import Reply, Request, error, running

CODE = "import sys; from lima_k8s.main import run; sys.exit(run(sys.argv[1:]))"
SAID = "Fine.\n{0}\n{0}"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STOP_FILE, raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


class Study:
    """A study of responses that were made elsewhere, and the command that has them judged."""

    def __init__(self, folder: Path, prompts: int, arms: tuple[str, ...] = ("lima",)) -> None:
        self.folder, self.storage = folder, Storage(str(folder / "results"))
        asked = [f"Question {index}?" for index in range(prompts)]
        lines = [json.dumps({"conversations": [text], "source": "tests"}) for text in asked]
        (folder / "prompts.jsonl").write_text("\n".join(lines), "utf-8")
        for arm in arms:
            given = [{"prompt": text, "response": f"{arm} on {text}"} for text in asked]
            (folder / f"{arm}.jsonl").write_text("\n".join(map(json.dumps, given)), "utf-8")
        self.cells = [self._cell(arm) for arm in arms]

    def _cell(self, arm: str) -> CellSpec:
        prompts = DataSpec(str(self.folder / "prompts.jsonl"))
        model = ModelSpec(f"responses:{self.folder / arm}.jsonl")
        # Without GPUs on this machine: none are needed, whatever generate.compute says.
        return CellSpec("study", arm, generate=GenerateSpec(prompts, model))

    def submit(self, kind: str, *cells: CellSpec) -> "subprocess.CompletedProcess[str]":
        recipe = self.folder / "study.json"
        recipe.write_text(json.dumps({"runs": [encode(cell) for cell in cells]}), "utf-8")
        return self.call(
            "submit", kind, "--local", "--recipe", str(recipe), "--storage", self.storage.uri
        )

    def call(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", CODE, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def rows(self, cell: CellSpec) -> list[dict[str, Any]]:
        """Return the judgments of a cell, under the id that `submit` gives its run."""
        others = [other for other in self.cells if other.arm != cell.arm]
        named, *_ = prepare([cell, *others], Contents(), storage=self.storage).cells
        rows: list[dict[str, Any]] = RunTable(self.storage, JUDGMENTS, named).read().to_pylist()
        return rows


def index_of(request: Request) -> int:
    return int(request.text.split("lima on Question ")[1].split("?")[0])


def in_turn(*replies: Reply) -> Callable[[int], Reply]:
    """Answer attempt after attempt; the last reply repeats."""
    return lambda attempt: replies[min(attempt, len(replies) - 1)]


GOOD = Reply(SAID.format(5))
WAYS: list[tuple[Callable[[int], Reply], list[tuple[str, int | None, str]]]] = [
    (in_turn(GOOD), [("ok", 200, "")]),
    (
        in_turn(Reply(delay_s=3600), GOOD),
        [("api_error", None, "no answer within 1 s"), ("ok", 200, "")],
    ),
    (
        in_turn(error(429, "slow down", retry_after="1"), GOOD),
        [("api_error", 429, "slow down"), ("ok", 200, "")],
    ),
    (
        in_turn(
            Reply(
                SAID.format(4),
                headers={
                    "x-ratelimit-remaining-requests": "0",
                    "x-ratelimit-reset-requests": "700ms",
                },
            )
        ),
        [("ok", 200, "")],
    ),
    (in_turn(Reply(raw='{"choices": [')), [("api_error", 200, "not a chat completion")] * 2),
    (in_turn(Reply("I like it.")), [("parse_fail", 200, "does not end with a grade")] * 2),
    (in_turn(Reply("Hm.\n2\n3")), [("parse_fail", 200, "ends with two")] * 2),
    (in_turn(Reply(close=True), GOOD), [("api_error", None, "answer was lost"), ("ok", 200, "")]),
    (
        in_turn(Reply(raw="220 mail ESMTP\r\n\r\n", bare=True)),
        [("api_error", None, "Bad status line")] * 2,
    ),
    (in_turn(Reply(None, refusal="No.")), [("refusal", 200, "No.")] * 2),
    (in_turn(Reply(finish_reason="length")), [("truncated", 200, "judge.max_tokens")] * 2),
    (in_turn(error(500, "oops"), GOOD), [("api_error", 500, "oops"), ("ok", 200, "")]),
    (in_turn(error(400, "too long")), [("api_error", 400, "too long")]),
]


@pytest.mark.slow
def test_rows_say_what_went_wrong(tmp_path: Path) -> None:
    study = Study(tmp_path, len(WAYS))
    tries: defaultdict[int, int] = defaultdict(int)

    def answer(request: Request) -> Reply:
        index = index_of(request)
        tries[index] += 1
        return WAYS[index][0](tries[index] - 1)

    with running(answer) as server:
        judge = JudgeSpec(base_url=server.base_url, model="judge", attempts=2, timeout_s=1)
        cell = replace(study.cells[0], judge=judge)
        done = study.submit("judge", cell)
        assert done.returncode == 0, done.stderr
        rows = study.rows(cell)
        for index, (_, expected) in enumerate(WAYS):
            # In the order of the responses, and of the attempts at each.
            got, rows = rows[: len(expected)], rows[len(expected) :]
            for row, (status, http_status, said) in zip(got, expected, strict=True):
                told = (row["status"], row["http_status"], said in (row["error"] or ""))
                assert told == (status, http_status, True), (index, row)
                assert (row["score"] is None) == (status != "ok")
            assert [row["final"] for row in got] == [False] * (len(got) - 1) + [True]
        assert rows == []
        asked = len(server.requests)
        assert study.submit("judge", cell).returncode == 0
        assert len(server.requests) == asked


@pytest.mark.slow
def test_an_endpoint_that_is_killed_and_started_again(tmp_path: Path) -> None:
    study = Study(tmp_path, 30)

    def grade(request: Request) -> Reply:
        return Reply(SAID.format(index_of(request) % 6 + 1), delay_s=0.05)

    with running() as server:
        judge = JudgeSpec(base_url=server.base_url, attempts=2, concurrency=4, shard_rows=8)
        cell = replace(study.cells[0], judge=judge)

        def answer_and_vanish(request: Request) -> Reply:
            if request.number > 14:
                server.vanish()
            return grade(request)

        server.answer = answer_and_vanish
        stopped = study.submit("judge", cell)
        first = server
    assert stopped.returncode == 1, stopped.stderr
    assert "no connection" in stopped.stderr
    assert "finished judgments are kept" in stopped.stderr
    assert all(row["status"] == "ok" for row in study.rows(cell))
    with running(grade, first.port) as second:
        assert study.submit("judge", cell).returncode == 0
    rows = study.rows(cell)
    final = [row for row in rows if row["final"]]
    assert [row["score"] for row in final] == [index % 6 + 1 for index in range(30)]
    lost = [row for row in rows if not row["final"]]  # sent, but not answered: they count
    assert {(row["attempt"], row["status"]) for row in lost} == {(1, "api_error")}
    assert len(lost) <= judge.concurrency
    # What was on its way when the endpoint went may have been billed and be asked again.
    paid = first.paid + second.paid
    assert len(paid) == 30
    assert sum(paid.values()) - 30 <= judge.concurrency


@pytest.mark.slow
def test_a_judge_that_changes_its_mind(tmp_path: Path) -> None:
    study = Study(tmp_path, 8, ("lima", "other"))
    with running() as server:
        asked: set[str] = set()

        def answer(request: Request) -> Reply:
            again = request.text in asked
            asked.add(request.text)
            return Reply("B\nB" if again else "A\nA")

        server.answer = answer
        judge = JudgeSpec(
            base_url=server.base_url,
            model="judge",
            rubric="preference",
            baselines=("other",),
            repeats=5,
            concurrency=1,
        )
        made = study.submit("generate", *study.cells)
        assert made.returncode == 0, made.stderr
        cell = replace(study.cells[0], judge=judge)
        done = study.submit("judge", cell)
        assert done.returncode == 0, done.stderr
    rows = study.rows(cell)
    labels = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["presentation"]):
        labels[row["item_id"]].append(row["label"])
    assert sorted(labels.values()) == [["A"]] * 3 + [["A", "B"]] * 5
    told = study.call("agreement", study.storage.uri, "--format", "json")
    assert told.returncode == 0, told.stderr
    [habits] = json.loads(told.stdout)["raters"]
    assert (habits["repeated"]["count"], habits["repeated"]["total"]) == (0, 5)
