"""A process of an engine, as the worker that started it sees it: messages over pipes, no port."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from lima.errors import EngineDiedError
from lima.generation.frames import read_frame, write_frame


class EngineProcess:
    """A process that reads messages and writes messages. It must end when its input does."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        """Start it, in a group of its own, to be ended as a whole."""
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )

    @property
    def output(self) -> IO[bytes]:
        """Where its messages come from."""
        assert self.process.stdout
        return self.process.stdout

    def send(self, message: Any) -> None:
        """Send a message.

        Raises:
            EngineDiedError: the process has ended.

        """
        assert self.process.stdin
        try:
            write_frame(self.process.stdin, message)
        except BrokenPipeError as error:
            raise self._died() from error

    def receive(self) -> dict[str, Any]:
        """Wait for a message.

        Raises:
            EngineDiedError: the process has ended.

        """
        try:
            message: dict[str, Any] = read_frame(self.output)
        except EOFError as error:
            raise self._died() from error
        return message

    def end(self) -> None:
        """End it and all processes that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _died(self) -> EngineDiedError:
        self.end()
        return EngineDiedError(
            f"a process of the engine ended (exit code {self.process.returncode}); what it said is "
            "in the log above"
        )
