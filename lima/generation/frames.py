"""Messages between a worker and a process of its engine: JSON, each after its length in bytes."""

import json
import os
import queue
import signal
import sys
import threading
from typing import IO, Any

LENGTH = 4
"""Bytes of a message's length, the highest first."""


def write_frame(stream: IO[bytes], message: Any) -> None:
    """Send a message.

    Raises:
        BrokenPipeError: nobody reads any more.

    """
    content = json.dumps(message).encode()
    stream.write(len(content).to_bytes(LENGTH, "big") + content)
    stream.flush()


def read_frame(stream: IO[bytes]) -> Any:
    """Wait for the next message.

    Raises:
        EOFError: whoever wrote has ended, maybe within a message.

    """
    content = _exactly(stream, int.from_bytes(_exactly(stream, LENGTH), "big"))
    return json.loads(content)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError("the other process has ended")
    return content


def own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Return standard input and output for messages, and leave others to all else here.

    What a library prints goes to standard error, and what it or a process of it reads is empty.
    """
    sys.stdout.flush()
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return asked, answers


def incoming(stream: IO[bytes]) -> "queue.SimpleQueue[Any]":
    """Return what arrives from now on; with the worker this process and all that it started end.

    A worker that is killed must not leave GPUs occupied, whatever is being decoded.
    """
    arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(stream, arrived), daemon=True).start()
    return arrived


def _receive(stream: IO[bytes], arrived: "queue.SimpleQueue[Any]") -> None:
    try:
        while True:
            arrived.put(read_frame(stream))
    except EOFError:
        os.killpg(0, signal.SIGKILL)
