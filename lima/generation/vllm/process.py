"""Starting vLLM in its own environment."""

from pathlib import Path
from typing import Any

import lima
from lima.common.secret_names import engine_environment
from lima.common.temporary import temporary_folder
from lima.errors import ModelError
from lima.generation.engine_process import EngineProcess

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


def start_vllm(python: Path, settings: dict[str, Any]) -> EngineProcess:
    """Start vLLM and wait until it has loaded a model.

    It then takes lists of requests: `id`, `token_ids`, `limit` and `address` of each. It answers
    each when it has ended: `id`, `token_ids` and `logprobs`, or `id` and why it is `refused`.

    Args:
        python: Of the environment that has vLLM.
        settings: `device` (cpu or cuda), `eot_id`, and `arguments` of vLLM's engine.

    Raises:
        ModelError: vLLM cannot load the model, or not on this machine.
        EngineDiedError: the process ended.

    """
    # The process finds `lima` there, and nothing else that is installed beside it.
    with temporary_folder("lima-vllm-") as folder:
        (folder / "lima").symlink_to(Path(lima.__file__).parent, target_is_directory=True)
        process = EngineProcess([python, "-m", CHILD], _environment(folder))
        process.send(settings)
        said = process.receive()
    if "refused" in said:
        process.end()
        model = settings["arguments"]["model"]
        raise ModelError(f"vLLM cannot sample from {model}: {said['refused']}")
    return process


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of a Python that finds `lima` in `folder`, and no more of ours."""
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {name: value for name, value in engine_environment().items() if name not in ours}
    return {**DEFAULTS, **kept, **FORCED, "PYTHONPATH": str(folder)}
