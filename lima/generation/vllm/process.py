"""The process of a worker's vLLM, as the worker sees it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lima
from lima.common.temporary import temporary_folder
from lima.errors import EngineDiedError, ModelError
from lima.generation.vllm.frames import read_frame, write_frame

CHILD = "lima.generation.vllm.child"
DEFAULTS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process less to end
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # workers that share a machine share its cores
}
"""Environment of the process, where the user's says nothing else."""
FORCED = {
    # The interface of logits processors that ours has.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    # What this process imports is what its environment holds, and `lima`.
    "PYTHONSAFEPATH": "1",
    "PYTHONNOUSERSITE": "1",
}


class VllmProcess:
    """Loads a model in vLLM's own environment, and samples from it there."""

    def __init__(self, python: Path, settings: dict[str, Any]) -> None:
        """Start vLLM and wait until it is ready.

        Args:
            python: Of the environment that has it.
            settings: `device` (cpu or cuda), `eot_id`, and `arguments` of vLLM's engine.

        Raises:
            ModelError: vLLM cannot load the model, or not on this machine.
            EngineDiedError: the process ended.

        """
        # The process finds `lima` there, and nothing else that is installed beside it.
        with temporary_folder("lima-vllm-") as folder:
            (folder / "lima").symlink_to(Path(lima.__file__).parent, target_is_directory=True)
            self.process = subprocess.Popen(
                [python, "-m", CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_environment(folder),
                start_new_session=True,  # a group of its own, to be ended as a whole
            )
            self._send(settings)
            said = self.receive()
        if "refused" in said:
            self.end()
            raise ModelError(
                f"vLLM cannot sample from {settings['arguments']['model']}: {said['refused']}"
            )

    def ask(self, requests: Sequence[dict[str, Any]]) -> None:
        """Send requests: `id`, `token_ids`, `limit` and `address` of each.

        Raises:
            EngineDiedError: the process has ended.

        """
        self._send(list(requests))

    def receive(self) -> dict[str, Any]:
        """Wait for a response: `id`, `token_ids` and `logprobs`, or `id` and why it is `refused`.

        Raises:
            EngineDiedError: the process has ended.

        """
        assert self.process.stdout
        try:
            answer: dict[str, Any] = read_frame(self.process.stdout)
        except EOFError as error:
            raise self._died() from error
        return answer

    def end(self) -> None:
        """End all processes of this vLLM."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _send(self, message: Any) -> None:
        assert self.process.stdin
        try:
            write_frame(self.process.stdin, message)
        except BrokenPipeError as error:
            raise self._died() from error

    def _died(self) -> EngineDiedError:
        self.end()
        return EngineDiedError(
            f"the process of vLLM ended (exit code {self.process.returncode}); what it said is in "
            "the log above"
        )


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of a Python that finds `lima` in `folder`, and nothing of ours."""
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**DEFAULTS, **kept, **FORCED, "PYTHONPATH": str(folder)}
