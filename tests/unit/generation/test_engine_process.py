"""What passes between a worker and a process of its engine, and what that process imports."""

import io
import json
import subprocess
import sys

import pytest

from lima.errors import EngineDiedError
from lima.generation.engine_process import EngineProcess
from lima.generation.frames import read_frame, write_frame

ECHO = """
from lima.generation.frames import incoming, own_pipes, write_frame
asked, answers = own_pipes()
arrived = incoming(asked)
while True:
    message = arrived.get()
    print("what a library prints is no message")
    if message == "end":
        raise SystemExit(3)
    write_frame(answers, {"echo": message})
"""
IMPORTED = """
import json, sys
import lima.generation.nucleus, lima.generation.sampling, lima.generation.vllm.child
print(json.dumps([name for name in sys.modules]))
"""


def test_messages_arrive_whole() -> None:
    stream = io.BytesIO()
    messages = [{"text": "日本語", "logprob": -0.1}, [], list(range(100_000))]
    for message in messages:
        write_frame(stream, message)
    stream.seek(0)
    assert [read_frame(stream) for _ in messages] == messages
    with pytest.raises(EOFError):
        read_frame(stream)
    with pytest.raises(EOFError):
        read_frame(io.BytesIO(stream.getvalue()[:7]))


def test_a_process_answers_until_it_ends() -> None:
    process = EngineProcess([sys.executable, "-c", ECHO], {"PYTHONPATH": ":".join(sys.path)})
    for message in (1, ["two"]):
        process.send(message)
        assert process.receive() == {"echo": message}
    process.send("end")
    with pytest.raises(EngineDiedError, match="ended"):
        process.receive()
    with pytest.raises(EngineDiedError):
        process.send("more")


def test_vllm_needs_little_of_ours() -> None:
    """Its environment has msgspec, torch and transformers, and nothing else that ours has."""
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, check=True)
    names = [name.split(".") for name in json.loads(done.stdout)]
    assert {name[1] for name in names if name[0] == "lima" and len(name) > 1} == {
        "common",  # names of variables
        "errors",
        "generation",
        "spec",
    }
    assert not {name[0] for name in names} & {
        "pyarrow",
        "ray",
        "deepspeed",
        "botocore",
        "kubernetes",
    }
