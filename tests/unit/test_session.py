"""Starting Ray for a job."""

import os

import pytest
import ray

from lima.errors import LimaError
from lima.recipes import tiny
from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec, ModelSpec
from lima_jobs.session import STARTS, ray_session


def test_a_ray_that_does_not_start_is_tried_again_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a busy machine does to Ray cannot be had at will; the exception is Ray's own."""
    starts: list[object] = []

    def init(**options: object) -> None:
        starts.append(options["address"])
        raise Exception("The current node timed out during startup.\nmore")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(LimaError, match=r"timed out during startup\. Is this machine"),
        ray_session(tiny()),
    ):
        pass
    assert starts == ["local"] * STARTS


def test_what_only_asks_a_judge_starts_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    given = GenerateSpec(DataSpec("p.jsonl"), ModelSpec("responses:r.jsonl"))
    with ray_session([CellSpec("e", "arm", generate=given, judge=JudgeSpec())]) as parallel:
        assert parallel == os.cpu_count()
