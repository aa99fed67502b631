"""Responses to label, and the labelling server as a person starts it."""

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lima.common.clock import now
from lima.spec import CellSpec, DataSpec, GenerateSpec, ModelSpec, Stage, TrainSpec
from lima.spec.codec import canonical_json, encode, run_id, sha256_key
from lima.store.scan import Tables
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS, GENERATIONS, RUNS
from tests.helpers.synthetic import write_input

OURS, OTHER = "lima-secret-65b", "rival-secret-4"
"""Arms whose names must not reach a page."""
PAIR = ("--run", OURS, "--against", OTHER)
ATTACK = (
    "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    "</p></section><style>body{display:none}</style><b>bold</b> {{nonce}} [x](javascript:alert(1))"
)


def write_responses(
    storage: Storage, arm: str, prompts: int = 60, *, epoch: int | None = None, seed: int = 0
) -> str:
    """Write a run of generation with a response to every prompt; return its id."""
    model = ModelSpec("run:train", epoch=epoch)
    cell = CellSpec(
        "study",
        arm,
        seed,
        train=TrainSpec(ModelSpec("base"), DataSpec("authored:howto")),
        generate=GenerateSpec(DataSpec("authored:test"), model),
    )
    _record(storage, replace(cell, generate=None), "train", None)
    _record(storage, cell, "generate", run_id(cell, "train"))
    rows = [_row(cell, number, arm, epoch) for number in range(prompts)]
    RunTable(storage, GENERATIONS, cell).write("prompts", rows)
    return run_id(cell)


def write_pair(folder: Path, prompts: int) -> Path:
    """Write responses of both arms to the same prompts; return the folder."""
    storage = Storage(str(folder))
    for arm in (OURS, OTHER):
        write_responses(storage, arm, prompts)
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a folder with twelve responses of each arm."""
    return write_pair(tmp_path, 12)


def annotations(folder: Path) -> list[dict[str, Any]]:
    """Return all rows of `annotations`."""
    columns = [c.name for c in ANNOTATIONS.columns]
    return Tables(Storage(str(folder))).read(ANNOTATIONS, columns).to_pylist()


def _record(storage: Storage, cell: CellSpec, stage: Stage, parent: str | None) -> None:
    row = {"stage": stage, "parent_run_id": parent, "spec": canonical_json(encode(cell))}
    rest = {"examples": 10, "versions": "{}", "created_at": now()}
    RunTable(storage, RUNS, cell).write("run", [row | rest])
    write_input(storage, cell, stage)


def _row(cell: CellSpec, number: int, arm: str, epoch: int | None) -> dict[str, Any]:
    prompt = [f"Prompt {number}: how does a cat & a hat <b>fit</b>?"]
    text = f"Answer {sha256_key([arm, epoch, number])[:8]} to prompt {number}.\n\n" + "Words. " * 60
    return {
        "generation_key": sha256_key([run_id(cell), number]),
        "prompt_key": sha256_key(prompt),
        "prompt_index": number,
        "sample": 0,
        "source": "test" if number % 2 else "dev",
        "prompt": prompt,
        "response": f"{ATTACK}\n{text}" if number % 7 == 0 else text,
        "token_ids": [],
        "finish_reason": "eot",
        "prompt_tokens": 1,
        "response_tokens": 1,
        "logprob": 0.0,
        "seed_address": "",
        "model": f"models/{arm}",
        "at": now(),
    }


@dataclass
class Answered:
    """What the server said."""

    status: int
    value: Any
    headers: http.client.HTTPMessage


@dataclass
class Server:
    """A process of `lima-k8s annotate`, and the links that it printed."""

    arguments: Sequence[str]
    log: Path
    links: dict[str, str] = field(default_factory=dict)
    token: str = ""

    def start(self) -> None:
        """Start, and wait until the links are there."""
        code = "import sys; from lima_k8s.main import run; sys.exit(run(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "annotate", *self.arguments, "--no-browser"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            said.append(line)
            name, _, link = line.strip().partition("  ")
            if link.startswith("http"):
                self.links[name] = link
            if line.startswith("access token"):
                self.token = line.split()[-1]
            if line.startswith("end with"):
                return
        raise AssertionError(f"the server ended with {self.process.wait()}: {''.join(said)}")

    def kill(self) -> None:
        """End it at once, without a chance to do anything (SIGKILL)."""
        self.process.kill()
        self.process.communicate()

    def stop(self, how: signal.Signals = signal.SIGINT) -> str:
        """End it as Ctrl-C does; return what it said."""
        self.process.send_signal(how)
        _, said = self.process.communicate()
        assert self.process.returncode == 0, said
        return str(said)

    def ask(
        self, link: str, action: str, body: Any = None, method: str = "POST", **headers: str
    ) -> Answered:
        """Send a request as the page does, and read the answer."""
        address = urlsplit(link)
        sent = {"Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(str(address.hostname), address.port)
        data = None if method == "GET" else json.dumps(body or {})
        with contextlib.closing(connection):
            connection.request(method, address.path + action, data, sent)
            answer = connection.getresponse()
            text = answer.read().decode()
        is_json = answer.headers["Content-Type"].startswith("application/json")
        return Answered(answer.status, json.loads(text) if is_json else text, answer.headers)


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Server]:
    """Serve a round until the end of the block."""
    server = Server([str(folder), *arguments], folder / "server.log")
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


def act(turn: int, event: str = "labelled", **more: Any) -> dict[str, Any]:
    """Return what the page sends, under a new id."""
    answers = {"answers": {"label": "A"}} if event == "labelled" else {}
    return {"event_id": str(uuid.uuid4()), "turn": turn, "event": event, **answers, **more}
