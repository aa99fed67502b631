"""Messages between a worker and the process of its vLLM: JSON, each after its length in bytes."""

import json
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
