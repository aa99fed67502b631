"""Starting Ray for a job."""

import pytest
import ray

from lima.errors import LimaError
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
        ray_session([]),
    ):
        pass
    assert starts == ["local"] * STARTS
