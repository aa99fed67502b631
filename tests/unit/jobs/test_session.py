"""Starting Ray for a job."""

import os

import psutil
import pytest
import ray

import lima_jobs.rayinit
from lima.errors import LimaError
from lima.recipes.demo import tiny
from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec, ModelSpec
from lima_jobs.ownray import own_ray, require_loopback
from lima_jobs.rayinit import STARTS, _start_ray
from lima_jobs.session import ray_session


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


@pytest.mark.slow
def test_a_start_that_failed_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lima_jobs.rayinit, "STARTS", 1)
    before = set(psutil.Process().children(recursive=True))
    # Ray refuses so small a store only when the first of its processes runs.
    with own_ray(1) as options, pytest.raises(LimaError, match="Ray did not start, 1 times"):
        _start_ray(options | {"object_store_memory": 1})
    assert set(psutil.Process().children(recursive=True)) - before == set()


def test_what_the_environment_says_of_a_ray_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of the shell")
    before = dict(os.environ)
    with own_ray(1) as options:
        assert os.environ["LIMA_OWN_RAY"] in options["_temp_dir"]
        assert os.environ["RAY_AUTH_TOKEN"] != "of the shell"
    assert dict(os.environ) == before


def test_a_ray_that_others_can_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "192.0.2.1")
    with pytest.raises(LimaError, match=r"listens on 192\.0\.2\.1"):
        require_loopback()


def test_what_only_asks_a_judge_starts_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    given = GenerateSpec(DataSpec("p.jsonl"), ModelSpec("responses:r.jsonl"))
    with ray_session([CellSpec("e", "arm", generate=given, judge=JudgeSpec())]) as parallel:
        assert parallel == os.cpu_count()
