"""Responses of other models: from files in three layouts, and from a real endpoint."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.common.variables import STOP_FILE
from lima.endpoints import client
from lima.endpoints.journal import Journal
from lima.endpoints.ratelimit import LOOK_AGAIN_S
from lima.errors import DataError, EndpointError, Interrupted, SpecError
from lima.evaluation.aggregate.table import aggregate_rows
from lima.generation.response_files import read_responses_file, text_key
from lima.runs.ledger import record_run
from lima.runs.progress import Progress
from lima.runs.stop import request_stop, stop_file
from lima.spec import CellSpec, DataSpec, DecodingSpec, GenerateSpec, ModelSpec
from lima.spec.codec import run_id
from lima.spec.endpoints import EndpointSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from lima_jobs.generate import run_generate
from tests.helpers.judge_server import JudgeServer, Reply, Request, error, running

PROMPTS = [["Why is the sky blue?"], ["And now?", "Now what?", "What time is it?"], ["Name one."]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", 0.001)
    monkeypatch.setenv(STOP_FILE, str(tmp_path / "stop"))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"conversations": p, "source": "tests"}) for p in PROMPTS]
    path.write_text("\n".join(lines), "utf-8")
    return path


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with running(lambda request: Reply(f"Re: {request.text}")) as endpoint:
        yield endpoint


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "study"))


def cell(prompts: Path, model: str, **decoding: Any) -> CellSpec:
    generate = GenerateSpec(
        DataSpec(str(prompts)),
        ModelSpec(model),
        DecodingSpec(**decoding),
        endpoint=EndpointSpec(attempts=2, concurrency=2),
    )
    return CellSpec("study", "bard", generate=generate)


def run(baseline: CellSpec, storage: Storage) -> list[dict[str, Any]]:
    record_run(storage, baseline, "generate")
    try:
        run_generate(baseline, storage, Progress(storage, run_id(baseline)))
    finally:
        rows: list[dict[str, Any]] = RunTable(storage, GENERATIONS, baseline).read().to_pylist()
        rows.sort(key=lambda row: (row["prompt_index"], row["sample"]))
    return rows


def write(path: Path, entries: list[Any], *, as_list: bool = False) -> str:
    lines = "\n".join(map(json.dumps, entries))
    path.write_text(json.dumps(entries) if as_list else lines, "utf-8")
    return str(path)


def test_layouts_say_the_same(tmp_path: Path) -> None:
    questions = write(
        tmp_path / "question.jsonl",
        [
            {"question_id": 81, "category": "x", "turns": ["Why is the sky blue?", "More."]},
            {"question_id": 7, "text": "Name one."},
        ],
    )
    files = [
        write(
            tmp_path / "plain.jsonl",
            [
                {"prompt": "Why is the sky blue?", "response": "Light."},
                {"prompt": ["Name one."], "response": "Two."},
            ],
        ),
        write(
            tmp_path / "lima.jsonl",
            [
                {"conversations": ["Why is the sky blue?", "Light."]},
                {"conversations": ["Name one.", "Two."]},
            ],
        ),
        write(
            tmp_path / "alpaca.json",
            [
                {
                    "instruction": "Why is the sky blue?",
                    "input": "",
                    "output": "Light.",
                    "generator": "m",
                },
                {"instruction": "Name one.", "output": "Two."},
            ],
            as_list=True,
        ),
        write(
            tmp_path / "fastchat.jsonl",
            [
                {"question_id": 81, "model_id": "m", "choices": [{"turns": ["Light.", "And so."]}]},
                {"question_id": 7, "text": "Two.", "model_id": "m"},
            ],
        )
        + f"#{questions}",
    ]
    expected = {text_key(["Why is the sky blue? "]): "Light.", text_key(["Name one."]): "Two."}
    for name in files:
        assert read_responses_file(f"responses:{name}") == expected, name


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"text": "x"}], "not a response"),
        ([{"question_id": 1, "text": "x"}], "#QUESTIONS"),
        ([], "no responses"),
        ([{"prompt": "p", "response": "a"}, {"prompt": "p", "response": "b"}], ":2: a second"),
        (["{"], "not a response"),
    ],
)
def test_files_that_are_none_are_named(tmp_path: Path, entries: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_responses_file(write(tmp_path / "file.jsonl", entries))


SHAREGPT = {
    "conversations": [{"from": "human", "value": "Name one."}, {"from": "gpt", "value": "Two."}]
}
CHAT = {
    "conversations": [
        {"role": "user", "content": "Name one."},
        {"role": "assistant", "content": "Two."},
    ]
}


@pytest.mark.parametrize("entry", [SHAREGPT, CHAT])
def test_turns_of_sharegpt_are_read(tmp_path: Path, entry: Any) -> None:
    path = write(tmp_path / "file.jsonl", [entry])
    assert read_responses_file(path) == {text_key(["Name one."]): "Two."}


BROKEN = {
    "a system's turn": {
        "conversations": [{"from": "system", "value": "x"}, {"from": "human", "value": "y"}]
    },
    "a turn without words": {"conversations": ["x", {"from": "gpt"}]},
    "half a turn": {"conversations": ["x", {"from": "gpt", "value": None}]},
    "one turn": {"conversations": ["x"]},
    "no prompt": {"prompt": None, "response": "x"},
    "a number as prompt": {"prompt": [1], "response": "x"},
    "a lone surrogate in a prompt": {"prompt": "\ud800", "response": "x"},
    "a lone surrogate in a response": {"prompt": "x", "response": "\udfff."},
    "a lone surrogate in a turn": {"conversations": ["x", {"from": "gpt", "value": "\ud83d"}]},
    "no response": {"prompt": "x", "response": None},
    "a list as instruction": {"instruction": ["x"], "output": "y"},
    "an empty instruction": {"instruction": "", "output": "y"},
    "a mapping as input": {"instruction": "x", "input": {"a": 1}, "output": "y"},
    "a list as question_id": {"question_id": [1], "text": "x"},
    "no text": {"question_id": 1, "text": None},
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_entry_that_is_no_response_is_named(tmp_path: Path, name: str) -> None:
    questions = write(tmp_path / "question.jsonl", [{"question_id": 1, "text": "Why?"}])
    good = {"prompt": "p", "response": "r"}
    lines = f"{json.dumps(good)}\n\n{json.dumps(BROKEN[name])}\n"
    (tmp_path / "file.jsonl").write_text(lines, "utf-8")
    with pytest.raises(DataError, match=r"file\.jsonl:3: "):
        read_responses_file(f"{tmp_path}/file.jsonl#{questions}")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "conversations",
                        "prompt",
                        "response",
                        "instruction",
                        "input",
                        "output",
                        "question_id",
                        "text",
                        "choices",
                        "turns",
                        "from",
                        "value",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_any_entry_is_read_or_named(entry: Any) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / "file.jsonl", [entry])
        questions = write(Path(folder) / "question.jsonl", [{"question_id": 1, "text": "Why?"}])
        with contextlib.suppress(DataError):
            read_responses_file(f"{path}#{questions}")
        with contextlib.suppress(DataError):
            read_responses_file(f"{path}#{path}")


@pytest.mark.parametrize("line", ["[" * 100_000, '{"prompt": ' + "[" * 100_000, '{"a": 1}}'])
def test_a_line_that_is_no_json_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "file.jsonl").write_text(f"{line}\n", "utf-8")
    with pytest.raises(DataError, match=r"file\.jsonl"):
        read_responses_file(f"{tmp_path}/file.jsonl")


def test_real_fastchat_questions_are_read(shared_data: Path, tmp_path: Path) -> None:
    questions = shared_data / "fastchat" / "mt_bench" / "question.jsonl"
    answers = shared_data / "fastchat" / "mt_bench" / "reference_answer" / "gpt-4.jsonl"
    found = read_responses_file(f"{answers}#{questions}")
    lines = [json.loads(line) for line in answers.read_text("utf-8").split("\n") if line]
    assert len(found) == len(lines) == 30
    told = [json.loads(q) for q in questions.read_text("utf-8").split("\n") if q]
    asked = {question["question_id"]: question["turns"][0] for question in told}
    for line in lines:
        prompt = asked[line["question_id"]]
        assert found[text_key([prompt])] == line["choices"][0]["turns"][0]


def test_a_file_becomes_rows_under_its_own_arm(
    prompts: Path, tmp_path: Path, storage: Storage
) -> None:
    path = write(
        tmp_path / "bard.jsonl",
        [{"prompt": PROMPTS[0], "response": "Light."}, {"prompt": "Of others", "response": "No."}],
    )
    baseline = cell(prompts, f"responses:{path}")
    [row] = run(baseline, storage)
    assert (row["arm"], row["response"], row["prompt_index"]) == ("bard", "Light.", 0)
    assert row["not_applied"] == ["temperature", "top_p", "repetition_penalty", "top_k"]
    assert (row["logprob"], row["response_tokens"]) == (None, None)
    assert len(run(baseline, storage)) == 1
    [summary] = aggregate_rows(storage, ("arm",), note=print)
    assert (summary["arm"], summary["responses"]) == ("bard", 1)
    assert (summary["response_tokens"], summary["eot"]) == (None, 1.0)


def test_a_file_about_other_prompts_is_refused(
    prompts: Path, tmp_path: Path, storage: Storage
) -> None:
    path = write(tmp_path / "bard.jsonl", [{"prompt": "Else?", "response": "No."}])
    with pytest.raises(DataError, match="none to a prompt of this run"):
        run(cell(prompts, f"responses:{path}"), storage)


def test_an_endpoint_is_asked_with_the_same_settings(
    prompts: Path, server: JudgeServer, storage: Storage
) -> None:
    rows = run(cell(prompts, f"endpoint:{server.base_url}#bard", samples=2), storage)
    assert [r["response"] for r in rows[:2]] == ["Re: Why is the sky blue?"] * 2
    assert len(rows) == len(PROMPTS) * 2
    assert {tuple(row["not_applied"]) for row in rows} == {()}
    assert {(row["prompt_tokens"], row["response_tokens"]) for row in rows} == {(400, 50)}
    bodies = [request.body for request in server.requests]
    assert {
        (b["temperature"], b["top_p"], b["repetition_penalty"], b["max_tokens"]) for b in bodies
    } == {(0.7, 0.9, 1.2, 2048)}
    assert len({b["seed"] for b in bodies}) == len(bodies)
    longest = max(bodies, key=lambda b: len(b["messages"]))
    assert [m["role"] for m in longest["messages"]] == ["user", "assistant", "user"]
    assert [m["content"] for m in longest["messages"]] == PROMPTS[1]


def test_settings_that_an_endpoint_lacks_are_told(
    prompts: Path, server: JudgeServer, storage: Storage
) -> None:
    def strict(request: Request) -> Reply:
        if "repetition_penalty" in request.body:
            return error(400, "Unrecognized request argument supplied")
        if "max_tokens" in request.body:
            return error(400, "Unsupported parameter: 'max_tokens'")
        return Reply("Fine.")

    server.answer = strict
    rows = run(cell(prompts, f"endpoint:{server.base_url}#bard"), storage)
    assert [row["not_applied"] for row in rows] == [["repetition_penalty"]] * len(PROMPTS)
    assert server.requests[-1].body["max_completion_tokens"] == 2048
    assert server.requests[-1].body["top_p"] == 0.9


def test_a_prompt_that_is_filtered_says_nothing_about_settings(
    prompts: Path, server: JudgeServer, storage: Storage
) -> None:
    filtered = error(400, "not this one", "content_filter")
    server.answer = lambda r: filtered if "sky" in r.text else Reply("Fine.")
    baseline = cell(prompts, f"endpoint:{server.base_url}#bard")
    with pytest.raises(EndpointError, match="1 of 3 prompts"):
        run(baseline, storage)
    assert all("repetition_penalty" in request.body for request in server.requests)


def test_an_answer_that_was_cut_is_a_response(
    prompts: Path, server: JudgeServer, storage: Storage
) -> None:
    server.answer = lambda _: Reply("So it was th", finish_reason="length")
    rows = run(cell(prompts, f"endpoint:{server.base_url}#bard"), storage)
    assert {(row["response"], row["finish_reason"]) for row in rows} == {("So it was th", "length")}
    assert len(server.requests) == len(PROMPTS)


def test_nothing_is_paid_for_twice_and_failures_have_no_row(
    prompts: Path, server: JudgeServer, storage: Storage
) -> None:
    server.answer = lambda r: error(500) if "Name" in r.text else Reply("Fine.")
    baseline = cell(prompts, f"endpoint:{server.base_url}#bard")
    with pytest.raises(EndpointError, match="1 of 3 prompts stay unanswered"):
        run(baseline, storage)
    server.answer = lambda _: Reply("Fine.")
    rows = run(baseline, storage)
    assert [row["response"] for row in rows] == ["Fine."] * 3
    assert set(server.paid.values()) == {1}
    asked = len(server.requests)
    run(baseline, storage)
    assert len(server.requests) == asked


def test_answers_of_a_run_that_was_refused_are_kept(
    prompts: Path, server: JudgeServer, storage: Storage
) -> None:
    server.answer = lambda r: Reply("Fine.") if r.number < 3 else error(401)
    baseline = cell(prompts, f"endpoint:{server.base_url}#bard")
    with pytest.raises(EndpointError, match="refuses the key"):
        run(baseline, storage)
    server.answer = lambda _: Reply("Fine.")
    assert len(run(baseline, storage)) == 3
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        (error(404, "no such model"), r"the endpoint at .* check generate\.model\.path$"),
        (error(401), "OPENAI_API_KEY"),
        (error(429, retry_after="86400"), r"lower generate\.endpoint\.concurrency"),
        (Reply(status=308, raw="", headers={"location": "/x"}), r"into generate\.model\.path"),
        (Reply(None, finish_reason="length"), r"generate\.decoding\.max_new_tokens"),
    ],
)
def test_a_baseline_that_fails_is_not_called_the_judge(
    prompts: Path, server: JudgeServer, storage: Storage, reply: Reply, advice: str
) -> None:
    server.answer = lambda _: reply
    with pytest.raises(EndpointError, match=advice) as failure:
        run(cell(prompts, f"endpoint:{server.base_url}#bard"), storage)
    assert "judg" not in str(failure.value)


def test_refusals_that_were_paid_for_are_kept_and_count(
    prompts: Path, server: JudgeServer, storage: Storage
) -> None:
    def answer(request: Request) -> Reply:
        asked_to_stop = request.number == 4
        if asked_to_stop:
            request_stop()
        # Longer than nobody looks for a stop.
        pause = 2 * LOOK_AGAIN_S if asked_to_stop else 0.0
        if "Name" in request.text:
            return Reply(None, refusal="No.", delay_s=pause)
        return Reply("Fine.", delay_s=pause)

    server.answer = answer
    baseline = cell(prompts, f"endpoint:{server.base_url}#bard")
    assert baseline.generate
    patient = replace(baseline.generate, endpoint=EndpointSpec(attempts=19, concurrency=1))
    baseline = replace(baseline, generate=patient)
    with pytest.raises(Interrupted):
        run(baseline, storage)
    stop_file().unlink()
    [kept] = Journal(storage, run_id(baseline)).load().values()
    assert [attempt.status for attempt in kept] == ["refusal"] * (len(server.requests) - 2)
    for _ in range(2):
        with pytest.raises(EndpointError, match=r"raise generate\.endpoint\.attempts"):
            run(baseline, storage)
        assert len(server.requests) == len(PROMPTS) - 1 + 19
    server.answer = lambda _: Reply("Two.")
    more = replace(patient, endpoint=EndpointSpec(attempts=20, concurrency=1))
    assert len(run(replace(baseline, generate=more), storage)) == len(PROMPTS)


def test_thoughts_alone_are_no_response(
    prompts: Path, server: JudgeServer, storage: Storage
) -> None:
    server.answer = lambda _: Reply(
        raw='{"choices": [{"message": {"content": "", "reasoning_content": "Hm."}}]}'
    )
    baseline = cell(prompts, f"endpoint:{server.base_url}#bard")
    with pytest.raises(EndpointError, match="3 of 3 prompts stay unanswered"):
        run(baseline, storage)
    assert RunTable(storage, GENERATIONS, baseline).shards() == []


def test_an_address_that_is_none(prompts: Path, storage: Storage) -> None:
    for model in ("endpoint:http://localhost/v1", "endpoint:#m", "endpoint:localhost#m"):
        with pytest.raises(SpecError, match="endpoint:URL#MODEL"):
            run(cell(prompts, model), storage)


def test_how_it_is_asked_is_no_part_of_the_run(prompts: Path) -> None:
    one = cell(prompts, "endpoint:http://h/v1#m")
    assert one.generate
    other = replace(one, generate=replace(one.generate, endpoint=EndpointSpec(concurrency=99)))
    assert run_id(one) == run_id(other)
