"""A judge that compares arms of one study is asked once all of them have answered."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lima.common.variables import STOP_FILE
from lima.errors import DataError, NotReadyError
from lima.lint import lint
from lima.runs.done import is_done
from lima.runs.lease import lease
from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec, ModelSpec
from lima.spec.codec import run_id
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import JUDGMENTS
from lima_jobs.run import run_cells, run_stage
from tests.helpers.judge_server import JudgeServer, Reply, running
from tests.helpers.promised import promised
from tests.unit.inputs.test_submit_inputs import write

PROMPTS = 3


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(STOP_FILE, str(tmp_path / "stop"))
    monkeypatch.chdir(tmp_path)
    write("first")
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_bytes((tmp_path / "r.jsonl").read_bytes())


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with running(lambda _: Reply("A\nA")) as judge:
        yield judge


def study(url: str, **baselines: str) -> tuple[CellSpec, ...]:
    """Return arms, each judged against the one that is named."""
    cells = []
    for arm in ("one", "two"):
        spec = JudgeSpec(base_url=url, rubric="preference", baselines=(baselines.get(arm, ""),))
        generate = GenerateSpec(DataSpec("p.jsonl"), ModelSpec(f"responses:{arm}.jsonl"))
        judge = spec if arm in baselines else None
        cells.append(CellSpec("study", arm, generate=generate, judge=judge))
    return tuple(cells)


@pytest.mark.parametrize(
    "baselines", [{"one": "two"}, {"two": "one"}, {"one": "two", "two": "one"}]
)
@pytest.mark.parametrize("parallel", [1, 2])
def test_arms_answer_before_they_are_compared(
    server: JudgeServer, baselines: dict[str, str], parallel: int
) -> None:
    cells, storage = promised(study(server.base_url, **baselines)), Storage("out")
    run_cells(cells, storage, parallel)
    assert all(is_done(storage, cell) for cell in cells)
    rows = Tables(storage).read(JUDGMENTS, ["arm", "arm_2", "status"]).to_pylist()
    found = {(row["arm"], row["arm_2"]) for row in rows}
    assert found == set(baselines.items())
    assert len(rows) == PROMPTS * len(baselines)


def test_a_run_apart_says_what_to_wait_for(server: JudgeServer) -> None:
    """As on a cluster, where each run is a job of its own."""
    (one, two), storage = promised(study(server.base_url, one="two")), Storage("out")
    run_stage(one, "generate", storage)
    with pytest.raises(NotReadyError, match=r"\(two\), has no responses yet; .*submit generate"):
        run_stage(one, "judge", storage)
    with (
        lease(storage, run_id(two, "generate"), lambda: False, lambda: None),
        pytest.raises(NotReadyError, match="is answering now"),
    ):
        run_stage(one, "judge", storage)
    run_stage(two, "generate", storage)
    run_stage(one, "judge", storage)
    assert Tables(storage).read(JUDGMENTS, ["status"]).num_rows == PROMPTS


def test_responses_of_ones_own_that_are_missing_are_another_matter(server: JudgeServer) -> None:
    (one, two), storage = promised(study(server.base_url, one="two")), Storage("out")
    run_stage(two, "generate", storage)
    with pytest.raises(DataError, match="no responses of run"):
        run_stage(one, "judge", storage)


def test_lint_tells_the_order(server: JudgeServer) -> None:
    cells = study(server.base_url, one="two")
    [note] = [f for f in lint(cells) if "must have answered before" in f.message]
    assert (note.level, note.runs) == ("note", ("one/0",))
    other = [replace(cell, experiment=cell.arm) for cell in cells]
    assert not [f for f in lint(other) if "must have answered before" in f.message]
