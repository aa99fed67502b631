"""A judge that compares arms of one study is asked once all of them have answered."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lima.common.variables import STOP_FILE
from lima.errors import DataError, EndpointError, LimaError, NotReadyError
from lima.lint import lint
from lima.runs.done import is_done
from lima.runs.job_end import CellEnd
from lima.runs.lease import lease
from lima.runs.order import baselines_among
from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec, ModelSpec, stage_cell
from lima.spec.codec import run_id
from lima.spec.endpoints import EndpointSpec
from lima.store.scan import Tables
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS, JUDGMENTS
from lima_jobs.run import run_cells, run_stage
from tests.helpers.judge_server import JudgeServer, Reply, Request, error, running
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
    with pytest.raises(
        NotReadyError, match=r"\(two\), has not answered all of its prompts yet; .*submit generate"
    ):
        run_stage(one, "judge", storage)
    with (
        lease(storage, run_id(two, "generate"), lambda: False, lambda: None),
        pytest.raises(NotReadyError, match="is answering now"),
    ):
        run_stage(one, "judge", storage)
    run_stage(two, "generate", storage)
    run_stage(one, "judge", storage)
    assert Tables(storage).read(JUDGMENTS, ["status"]).num_rows == PROMPTS


def half_answered(url: str, **baselines: str) -> tuple[CellSpec, ...]:
    """Return a study whose arm `two` is asked of an endpoint, at `url`/other."""
    one, two = study(url, **baselines)
    assert two.generate
    model, asked = ModelSpec(f"endpoint:{url}#other"), EndpointSpec(attempts=1, concurrency=1)
    generate = replace(two.generate, model=model, endpoint=asked)
    return promised((one, replace(two, generate=generate)))


def fails_after_the_first(request: Request) -> Reply:
    """Answer all comparisons, but only one prompt of the arm that is asked."""
    if request.body["model"] != "other":
        return Reply("A\nA")
    return Reply("Well.") if request.number == 1 else error(500)


def test_a_baseline_that_ended_half_way_is_not_compared(server: JudgeServer) -> None:
    server.answer = fails_after_the_first
    cells, storage = half_answered(server.base_url, one="two"), Storage("out")
    ends: list[CellEnd] = []
    with pytest.raises(LimaError):
        run_cells(cells, storage, 1, ends=ends)
    said = {end.name: end.message for end in ends}
    assert "2 of 3 prompts stay unanswered" in said["two seed 0"]
    because = f"not judged: two seed 0, with which it is compared, ended: {said['two seed 0']}"
    assert said["one seed 0"] == because[: len(said["one seed 0"])]
    with pytest.raises(NotReadyError, match=r"\(two\), has not answered all of its prompts yet"):
        run_stage(cells[0], "judge", storage)  # as a job of its own
    assert not is_done(storage, cells[0])
    assert Tables(storage).read(JUDGMENTS, ["status"]).num_rows == 0

    server.answer = lambda _: Reply("A\nA")
    run_cells(cells, storage, 1)
    assert all(is_done(storage, cell) for cell in cells)
    assert Tables(storage).read(JUDGMENTS, ["status"]).num_rows == PROMPTS


def test_what_is_declined_for_good_is_not_waited_for(server: JudgeServer) -> None:
    server.answer = lambda r: replace(
        Reply("A\nA"), refusal="No." if r.body["model"] == "other" and r.number == 1 else None
    )
    cells, storage = half_answered(server.base_url, one="two"), Storage("out")
    with pytest.raises(EndpointError, match="1 of 3 prompts stay unanswered"):
        run_stage(cells[1], "generate", storage)
    run_stage(cells[0], "generate", storage)
    run_stage(cells[0], "judge", storage)
    assert Tables(storage).read(JUDGMENTS, ["status"]).num_rows == PROMPTS - 1


def test_a_study_goes_on_beside_a_baseline_that_declines_for_good(server: JudgeServer) -> None:
    """Each start of it ends that baseline's run early, which keeps no other arm from its judge."""
    declined: list[str] = []

    def answer(request: Request) -> Reply:
        text = str(request.body["messages"][-1]["content"])
        of_baseline = request.body["model"] == "other"
        declined.extend([text] if of_baseline and not declined else [])
        return replace(Reply("A\nA"), refusal="No." if of_baseline and text in declined else None)

    server.answer = answer
    cells, storage = half_answered(server.base_url, one="two"), Storage("out")
    for _ in range(2):
        ends: list[CellEnd] = []
        with pytest.raises(EndpointError, match=r"1 of .* prompts stay unanswered"):
            run_cells(cells, storage, 1, ends=ends)
        assert [end.name for end in ends] == ["two seed 0"]
    assert is_done(storage, cells[0])
    assert Tables(storage).read(JUDGMENTS, ["status"]).num_rows == PROMPTS - 1


def test_a_baseline_that_was_killed_after_its_last_shard_is_complete(server: JudgeServer) -> None:
    cells, storage = promised(study(server.base_url, one="two")), Storage("out")
    for cell in cells:
        run_stage(cell, "generate", storage)
    ends = RunTable(storage, ATTEMPTS, stage_cell(cells[1], "generate"))
    for shard in ends.shards():
        if shard.endswith("-ended"):
            storage.delete(ends.path(shard))
    run_stage(cells[0], "judge", storage)
    assert Tables(storage).read(JUDGMENTS, ["status"]).num_rows == PROMPTS


def test_seeds_of_one_arm_do_not_wait_for_each_other() -> None:
    one, two = study("http://localhost/v1", one="two")
    assert one.judge
    judged = replace(one, judge=replace(one.judge, baselines=("one", "two")))
    again = replace(judged, seed=1)
    assert baselines_among(judged, (judged, again, two)) == [two]


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
