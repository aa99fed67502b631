"""Chat as a person has it: the real command in a terminal."""

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lima.errors import LimaError
from lima.evaluation.aggregate.table import aggregate_rows
from lima.evaluation.report.page import render_report
from lima.generation.chat import ChatSpec, CheckpointResponder, EndpointResponder
from lima.generation.chat import Reply as Said
from lima.rating.conversations import Conversations
from lima.rating.labels import read_labels
from lima.recipes.registry import load_study
from lima.runs.ledger import record_run
from lima.spec import ComputeSpec, DecodingSpec, ModelSpec, cell_stages
from lima.spec.codec import decode, encode, run_id, sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS, GENERATIONS, RUNS
from lima_k8s.web.annotate.runs import Generated, chosen, generated_runs
from lima_k8s.web.trained_models import trained_runs
from tests.helpers.judge_server import JudgeServer, Reply, Request, error, running
from tests.helpers.web.chatting import COMMAND, chat, heard, rows_of
from tests.helpers.web.labelling import write_responses


@pytest.fixture
def endpoint() -> Iterator[JudgeServer]:
    """An endpoint that says how often it was spoken to."""
    with running(lambda request: Reply(heard(request))) as server:
        yield server


def test_a_conversation_in_a_terminal(endpoint: JudgeServer, tmp_path: Path) -> None:
    model = ("--base-url", endpoint.base_url, "--model", "parrot", "--experiment", "talks")
    said = "Hello <b>\np\n\nAnd then?\nwhat\nf\n/label 1\nexcellent\n/new\nAgain\n\n/quit\n"
    done = chat(tmp_path, said, *model, "--rater", "ann")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Heard 1: Hello <b>\nHeard 3: And then?\nHeard 1: Again\n"
    assert "this is no label" in done.stderr
    assert "2 conversations, 3 answers, 2 labelled" in done.stderr
    body = endpoint.requests[1].body
    roles = [(m["role"], m["content"]) for m in body["messages"]]
    assert roles == [
        ("user", "Hello <b>"),
        ("assistant", "Heard 1: Hello <b>"),
        ("user", "And then?"),
    ]
    assert (body["top_p"], body["temperature"], body["max_tokens"]) == (0.9, 0.7, 2048)
    assert "repetition_penalty" not in body
    rows = rows_of(
        tmp_path,
        GENERATIONS,
        "prompt",
        "response",
        "source",
        "arm",
        "experiment",
        "prompt_tokens",
        "response_tokens",
        "logprob",
        "finish_reason",
    )
    assert sorted(len(r["prompt"]) for r in rows) == [1, 1, 3]
    assert len({r["source"] for r in rows}) == 2
    assert {(r["arm"], r["experiment"], r["finish_reason"]) for r in rows} == {
        ("parrot", "talks", "eot")
    }
    assert {(r["prompt_tokens"], r["response_tokens"], r["logprob"]) for r in rows} == {
        (400, 50, None)
    }
    labels = read_labels(Tables(Storage(str(tmp_path))))
    assert sorted((x.turn, x.value, x.rater, x.group) for x in labels) == [
        (1, "excellent", "ann", "author"),
        (2, "fail", "ann", "author"),
    ]
    assert len(rows_of(tmp_path, ANNOTATIONS, "event")) == 3  # the label that was replaced stays


def test_a_chat_is_a_run_that_says_what_it_is(endpoint: JudgeServer, tmp_path: Path) -> None:
    model = ("--base-url", endpoint.base_url, "--model", "parrot", "--experiment", "talks")
    assert chat(tmp_path, "Hello\n\n", *model).returncode == 0
    assert chat(tmp_path, "Hello again\n\n", *model).returncode == 0
    (row,) = rows_of(
        tmp_path,
        RUNS,
        "run_id",
        "spec_hash",
        "experiment",
        "arm",
        "stage",
        "spec",
        "parent_run_id",
        "versions",
    )
    assert (row["experiment"], row["arm"], row["stage"]) == ("talks", "parrot", "chat")
    assert row["parent_run_id"] is None
    spec = decode(ChatSpec, json.loads(row["spec"]))
    assert spec.identity["spec_hash"] == row["spec_hash"] == sha256_key(json.loads(row["spec"]))
    assert spec.base_url == endpoint.base_url
    assert "python" in json.loads(row["versions"])
    said = rows_of(tmp_path, GENERATIONS, "run_id")
    assert {r["run_id"] for r in said} == {row["run_id"]}


def test_a_chat_with_a_model_of_a_study_is_no_cell_of_it(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    generated = write_responses(storage, "lima", 3)
    (trained,) = (
        r["run_id"] for r in rows_of(tmp_path, RUNS, "run_id", "stage") if r["stage"] == "train"
    )
    spec = ChatSpec("study", "lima", ModelSpec(f"run:{trained}"), DecodingSpec())
    talk = Conversations(storage, spec, Parrot(), "me")
    conversation = talk.new()
    for text in ("Hello", "Go on", "And then?"):
        talk.say(conversation, text)
    talk.label(conversation, 1, "pass")
    (row,) = (r for r in rows_of(tmp_path, RUNS, "stage", "parent_run_id") if r["stage"] == "chat")
    assert row["parent_run_id"] == trained
    notes: list[str] = []
    (cell,) = aggregate_rows(storage, note=notes.append)
    assert (cell["run_id"], cell["responses"]) == (generated, 3)
    assert notes == [f"left out: answers in conversations, which are in the report: {talk.run}"]
    page = render_report(storage, note=pytest.fail)
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert f"lima run:{trained} 1 3 1 {talk.run}" in text
    assert "1 arm, 1 seed, 1 cell" in text
    assert "lima, answers in dialogues people 1 2" in text  # two answers have no label
    assert "3 responses to 3 prompts" in text
    kinds = {g.run: g.chat for g in generated_runs(storage)}
    assert kinds == {generated: False, talk.run: True}


class Parrot:
    """Answers at once."""

    def reply(self, prompt: Sequence[str]) -> Said:
        return Said(f"You said {prompt[-1]}", "eot", [])


def test_the_same_command_goes_on_with_the_next_opening(
    endpoint: JudgeServer, tmp_path: Path
) -> None:
    model = ("--base-url", endpoint.base_url, "--model", "parrot")
    given = (*model, "--prompts", "authored:dialogue", "--count", "2")
    first = chat(tmp_path, "p\n/quit\n", *given)
    second = chat(tmp_path, "f\nMore?\n\n/new\nFree\n\n", *given)
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    openings = [r.body["messages"][0]["content"] for r in endpoint.requests]
    assert len(set(openings)) == 3
    assert openings[1] == openings[2] != openings[0]
    assert openings[3] == "Free"
    assert "3 conversations, 4 answers, 2 labelled" in second.stderr


def test_no_answer_is_no_turn(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        return error(400, "too long") if request.number == 1 else Reply("Fine")

    with running(answer) as server:
        model = ("--base-url", server.base_url, "--model", "m")
        done = chat(tmp_path, "Hello\nHello\n\n/quit\n", *model)
    assert done.stdout == "Fine\n"
    assert "error: " in done.stderr
    assert "too long" in done.stderr
    assert [r["response"] for r in rows_of(tmp_path, GENERATIONS, "response")] == ["Fine"]


def test_an_endpoint_that_repeats_the_key_does_not_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)

    def answer(request: Request) -> Reply:
        said = request.headers["authorization"]
        return error(401, f"Wrong: {said}") if request.number == 1 else Reply(f"Good: {said}")

    with running(answer) as server:
        model = ("--base-url", server.base_url, "--model", "m")
        done = chat(tmp_path, "Hello\nHello\n\n/quit\n", *model)
    assert done.stdout == "Good: Bearer ***\n"
    assert "Wrong: Bearer ***" in done.stderr
    assert key not in done.stderr
    assert [r["response"] for r in rows_of(tmp_path, GENERATIONS, "response")] == [
        "Good: Bearer ***"
    ]


def test_newer_models_talk_too(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        if "max_tokens" in request.body:
            return error(400, "Unsupported parameter: 'max_tokens'")
        return Reply("Fine")

    with running(answer) as server:
        spec = ChatSpec("e", "a", ModelSpec("m"), DecodingSpec(), server.base_url)
        assert EndpointResponder(spec, "").reply(["Hi"]).text == "Fine"
        assert server.requests[-1].body["max_completion_tokens"] == 2048


def test_a_chat_is_not_sent_elsewhere(tmp_path: Path) -> None:
    with running(lambda _: Reply(status=307, raw="", headers={"location": "/x"})) as server:
        spec = ChatSpec("e", "a", ModelSpec("m"), DecodingSpec(), server.base_url)
        with pytest.raises(LimaError, match="--base-url"):
            EndpointResponder(spec, "").reply(["Hi"])
        assert len(server.requests) == 1


def test_what_the_endpoint_may_lack_is_sent_only_when_asked_for(
    endpoint: JudgeServer, tmp_path: Path
) -> None:
    decoding = DecodingSpec(repetition_penalty=1.2, top_k=5, max_new_tokens=9)
    spec = ChatSpec("e", "a", ModelSpec("m"), decoding, endpoint.base_url)
    EndpointResponder(spec, "").reply(["Hi"])
    body = endpoint.requests[0].body
    assert (body["repetition_penalty"], body["top_k"], body["max_tokens"]) == (1.2, 5, 9)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--base-url", "http://127.0.0.1:1/v1"), "--model"),
        (("--run", "x", "--model", "y"), "say who to talk to"),
        ((), "no model was trained here"),
        (("--base-url", "http://127.0.0.1:1/v1", "--model", "m", "--prompts", "no.jsonl"), "no.j"),
    ],
)
def test_bad_input_is_explained(tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    done = chat(tmp_path, "", *arguments)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_checkpoint_of_a_study_answers_alike_every_time(tmp_path: Path) -> None:
    """The real model: the same words get the same answer, which the address replays."""
    from lima.model.loading import load_tokenizer
    from tests.helpers.models import make_base

    base = make_base(tmp_path / "base")
    tokenizer, _, _ = load_tokenizer(str(base), ModelSpec(str(base)))
    tokenizer.save_pretrained(base)
    _resize(base, len(tokenizer))
    spec = ChatSpec("e", "a", ModelSpec(str(base)), DecodingSpec(max_new_tokens=12))
    storage = Storage(str(tmp_path / "st"))
    compute = ComputeSpec(device="cpu", precision="fp32")
    replies = []
    for _ in range(2):
        talk = Conversations(storage, spec, CheckpointResponder(spec, storage, compute), "me")
        talk.all.clear()
        conversation = talk.new()
        replies.append([talk.say(conversation, text) for text in ("How?", "And then?")])
    assert replies[0] == replies[1]
    rows = rows_of(
        tmp_path / "st",
        GENERATIONS,
        "token_ids",
        "response_tokens",
        "logprob",
        "seed_address",
        "generation_key",
    )
    assert len({r["generation_key"] for r in rows}) == 4
    assert len({r["seed_address"] for r in rows}) == 2
    assert all(len(r["token_ids"]) == r["response_tokens"] <= 12 for r in rows)
    assert all(r["logprob"] < 0 for r in rows)
    long = "word " * 300
    with pytest.raises(LimaError, match="fills the model's context"):
        talk.say(talk.new(), long)


def _resize(folder: Path, rows: int) -> None:
    """Give the model a row for EOT, as training does."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(rows, mean_resizing=False)
    model.save_pretrained(folder)


def test_another_window_that_went_on_is_noticed(endpoint: JudgeServer, tmp_path: Path) -> None:
    spec = ChatSpec("e", "a", ModelSpec("m"), DecodingSpec(), endpoint.base_url)
    storage = Storage(str(tmp_path))

    def begin() -> Conversations:
        return Conversations(storage, spec, EndpointResponder(spec, ""), "me", ["Hello"])

    one, two = begin(), begin()
    (name,) = one.all
    one.say(one.named(name), "Hello")
    with pytest.raises(LimaError, match="another window"):
        two.say(two.named(name), "Hello")
    again = begin()
    assert again.named(name).utterances == ["Hello", "Heard 1: Hello"]
    kept = storage.read(f"chats/run_id={one.run}.json").decode()
    assert encode(spec)["model"]["path"] in kept


def test_commands_are_heard_at_every_prompt(endpoint: JudgeServer, tmp_path: Path) -> None:
    model = ("--base-url", endpoint.base_url, "--model", "parrot")
    said = "/help\nOne\n/nwe\n/new\nTwo\n/label 1\nexcellent\n//etc\n/quit\n"
    done = chat(tmp_path, said, *model)
    assert done.returncode == 0, done.stderr
    # `/new` at the prompt for a label begins another conversation, `/quit` there ends it all.
    assert done.stdout == "Heard 1: One\nHeard 1: Two\nHeard 3: /etc\n"
    for unknown in ("/help", "/nwe"):
        assert f"{unknown} is no command; /new: another conversation" in done.stderr
    assert "2 conversations, 3 answers, 1 labelled" in done.stderr


def test_the_same_command_goes_on_with_the_last_conversation(
    endpoint: JudgeServer, tmp_path: Path
) -> None:
    model = ("--base-url", endpoint.base_url, "--model", "parrot")
    chat(tmp_path, "Older\n\n/new\nHello\np\n", *model)
    again = chat(tmp_path, "And then?\n\n/label 1\nf\n", *model)
    assert again.stdout == "Heard 3: And then?\n"
    assert " goes on; 1 answers so far\nyou> Hello\nHeard 1: Hello\n" in again.stderr
    assert "2 conversations, 3 answers, 1 labelled" in again.stderr
    labels = read_labels(Tables(Storage(str(tmp_path))))
    assert [x.value for x in labels] == ["fail"]


@pytest.fixture
def two_seeds(tmp_path: Path) -> Path:
    storage = Storage(str(tmp_path / "st"))
    for cell in load_study("tiny", arms=["howto-32"]):
        for stage in cell_stages(cell):
            record_run(storage, cell, stage)
    return tmp_path / "st"


def test_a_model_is_named_as_status_names_runs(two_seeds: Path) -> None:
    storage = Storage(str(two_seeds))
    _, one = load_study("tiny", arms=["howto-32"])
    trained = run_id(one, "train")
    ids = (run_id(one), run_id(one)[:6], trained, trained[:6])
    for name in ("howto-32/1", "howto-32-s1-0123abcd", *ids):
        assert [r.run for r in trained_runs(storage, name, None)] == [trained], name
    assert [r.seed for r in trained_runs(storage, "howto-32", None)] == [0, 1]
    assert [r.stage for r in trained_runs(storage, "base", None)] == ["base"]
    with pytest.raises(LimaError, match=r"'howto-32/7' is no model .*\n.*seed 0\)\n.*seed 1\)"):
        trained_runs(storage, "howto-32/7", None)


def test_an_arm_of_several_seeds_asks_which(two_seeds: Path) -> None:
    nobody = chat(two_seeds, "", "--run", "howto-32")
    assert nobody.returncode == 2
    assert "more than one model" in nobody.stderr
    assert "seed 0)\n" in nobody.stderr
    typed, terminal = pty.openpty()
    os.write(typed, b"2\n")
    try:
        done = subprocess.run(
            [*COMMAND, str(two_seeds), "--run", "howto-32"],
            stdin=terminal,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(typed)
        os.close(terminal)
    assert "1: " in done.stderr
    assert "Which: " in done.stderr
    _, one = load_study("tiny", arms=["howto-32"])
    # It was taken up: there are no weights yet.
    assert f"run:{run_id(one, 'train')}: " in done.stderr
    assert "no exported weights" in done.stderr


def test_responses_are_named_by_arm_and_seed_too() -> None:
    runs = [Generated(f"{seed}" * 16, "study", "lima", seed) for seed in (0, 1)]
    assert chosen(runs, "lima/1", "--run").seed == 1
    with pytest.raises(LimaError, match="more than one is a run with responses"):
        chosen(runs, "lima", "--run")
