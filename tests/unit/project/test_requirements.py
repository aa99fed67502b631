"""The locks, and what is left out of them where there is no GPU."""

import re

import pytest

from tests.conftest import ROOT

REQUIREMENTS = ROOT / "requirements"
FOR_CUDA = re.compile(r"(nvidia-|cuda-|triton$)")
LINKED = {"nvidia-cuda-runtime", "nvidia-nvshmem-cu13"}
"""Of these torch takes the address of a variable when it is loaded: an empty library has none."""


def names(file: str) -> set[str]:
    """Return the packages of a file of requirements."""
    lines = (REQUIREMENTS / file).read_text("utf-8").splitlines()
    found = (re.match(r"[a-z0-9][a-z0-9.-]*", line) for line in lines)
    return {match[0] for match in found if match}


@pytest.mark.parametrize("lock", ["jobs.lock.txt", "dev.lock.txt"])
def test_all_that_only_cuda_needs_is_left_out(lock: str) -> None:
    assert names("cuda.txt") == {name for name in names(lock) if FOR_CUDA.match(name)} - LINKED
