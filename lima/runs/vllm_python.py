"""Where vLLM is: it pins a torch of its own, and so lives in an environment of its own."""

import os
from pathlib import Path

from lima.common.variables import VLLM_PYTHON
from lima.errors import InputError
from lima.spec import CellSpec, is_baseline

ENGINE = "vllm"
ADVICE = "install it (docs/generation.md), or --set generate.engine=transformers"


def vllm_problem() -> str:
    """Return why vLLM cannot be started on this machine; empty: it can, as far as is seen."""
    named = os.environ.get(VLLM_PYTHON, "")
    if not named:
        return f"{VLLM_PYTHON} is not set: it names the Python of the environment that has vLLM"
    python = Path(named)
    if not (python.is_file() and os.access(python, os.X_OK)):
        return f"{VLLM_PYTHON} is {named}, which is no program on this machine"
    # Beside the program of a virtual environment, which itself is a link.
    libraries = python.absolute().parent.parent
    if not any(libraries.glob("lib*/python3*/*-packages/vllm/__init__.py")):
        return f"{VLLM_PYTHON} is {named}, and {libraries} has no package vllm"
    return ""


def vllm_python() -> Path:
    """Return the Python of vLLM's environment.

    Raises:
        InputError: there is none.

    """
    if problem := vllm_problem():
        raise InputError(f"generate.engine is {ENGINE}, and {problem}; {ADVICE}")
    return Path(os.environ[VLLM_PYTHON]).absolute()


def uses_vllm(cell: CellSpec) -> bool:
    """Say whether a cell generates with vLLM."""
    generate = cell.generate
    return generate is not None and generate.engine == ENGINE and not is_baseline(generate.model)


def missing_vllm(cell: CellSpec) -> list[tuple[str, str, str]]:
    """Return what this machine lacks for the engine of a cell: (path, what is wrong, advice)."""
    problem = vllm_problem() if uses_vllm(cell) else ""
    return [("generate.engine", problem, ADVICE)] if problem else []
