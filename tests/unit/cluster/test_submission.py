"""Names of releases, values for Helm, and how runs are split over releases."""

import re
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.common.clock import now
from lima.common.variables import SUBMITTED_AT
from lima.errors import InputError
from lima.recipes.demo import tiny
from lima.recipes.paper import lima_65b
from lima.spec.codec import encode, run_id
from lima_k8s.cluster.read import parse
from lima_k8s.cluster.submit.launch import Target, _dated, _warn_of_stops, prepare
from lima_k8s.cluster.submit.releases import (
    MAX_RUNS,
    Submission,
    _there,
    priority_class,
    release_name,
)
from lima_k8s.profile.assets import read_profile

URI = "s3://bucket/study"
CELLS = tiny()


@given(st.text(min_size=1, max_size=100), st.sampled_from(["train", "ablation", "generate"]))
def test_a_release_has_a_name_that_helm_takes(experiment: str, kind: str) -> None:
    name = release_name(kind, [replace(CELLS[0], experiment=experiment)], URI)
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])", name)
    assert len(name) <= 53
    assert name.startswith(f"lima-{kind}")


def test_the_same_cells_and_storage_are_one_release() -> None:
    name = release_name("ablation", CELLS, URI)
    assert name == release_name("ablation", CELLS[::-1], URI)
    assert name != release_name("ablation", CELLS[:3], URI)
    assert name != release_name("ablation", CELLS, f"{URI}2")
    assert name.startswith("lima-ablation-tiny-")


def test_a_slash_at_the_end_makes_no_other_storage() -> None:
    plain, slashed = (
        Submission("ablation", CELLS, {"storage": {"uri": uri}}) for uri in (URI, f"{URI}/")
    )
    assert [name for name, _ in slashed.releases()] == [name for name, _ in plain.releases()]
    installed = parse.run(  # as by Helm itself, with values of its user's own
        {"metadata": {"name": "r", "annotations": {"lima-k8s.io/storage": f"{URI}/"}}}, {}
    )
    there = [replace(installed, run_id=run_id(CELLS[0]), release="theirs")]
    for submission in (plain, slashed):
        assert list(_there(submission, there, besides=())) == [run_id(CELLS[0])]
        assert _there(submission, [replace(there[0], storage=f"{URI}2")], besides=()) == {}


def test_many_runs_go_to_several_releases() -> None:
    cells = tuple(replace(CELLS[0], seed=seed) for seed in range(MAX_RUNS + 1))
    submission = Submission("ablation", cells, {"storage": {"uri": URI}})
    first, second = submission.releases()
    assert [len(values["runs"]) for _, values in (first, second)] == [MAX_RUNS, 1]
    assert first[0] != second[0]


def test_values_are_the_spec_and_what_differs_of_the_cluster() -> None:
    target = Target(profile="cpu-test", queue="q", priority="high", storage=f"{URI}/")
    submission = prepare("ablation", CELLS, target)
    [(_, values)] = submission.releases()
    assert values["runs"] == [encode(cell) for cell in CELLS]
    cluster = values["cluster"]
    assert (cluster["queue"], cluster["priorityClass"]) == ("q", "lima-high")
    assert cluster["storage"]["uri"] == URI
    assert cluster["head"] == read_profile("cpu-test")["head"]


def test_the_grace_period_follows_the_state() -> None:
    target = Target(storage=URI)
    large = prepare("train", lima_65b(), target).cluster["stop"]["stateGiB"]
    small = prepare("train", CELLS, target).cluster["stop"]["stateGiB"]
    assert large > 700
    assert small < 1


def test_long_stops_are_told_before_they_are_submitted(
    s3_storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Target(storage=s3_storage)
    _warn_of_stops(prepare("train", CELLS, target))
    assert "a stop" not in capsys.readouterr().err
    _warn_of_stops(prepare("train", lima_65b(), target))
    assert "warning: a stop may take 29 min at 250 MiB/s a node" in capsys.readouterr().err


def test_pods_are_told_when_they_were_asked_for() -> None:
    cluster = {"storage": {"uri": URI}, "env": {"HTTPS_PROXY": "http://proxy:3128"}}
    env = _dated(Submission("train", tuple(CELLS), cluster)).cluster["env"]
    assert env["HTTPS_PROXY"] == "http://proxy:3128"
    assert datetime.fromisoformat(env[SUBMITTED_AT]) <= now()


@pytest.mark.parametrize(
    ("priority", "values"),
    [
        (None, {}),
        ("low", {"priorityClass": "lima-low"}),
        ("none", {"priorityClass": ""}),
        ("team-urgent", {"priorityClass": "team-urgent"}),
    ],
)
def test_priorities(priority: str | None, values: dict[str, str]) -> None:
    assert priority_class(priority) == values


def test_what_fits_no_node_is_refused() -> None:
    [cell] = lima_65b()
    assert cell.generate
    compute = replace(cell.generate.compute, gpus_per_worker=16)
    wide = replace(cell, generate=replace(cell.generate, compute=compute))
    with pytest.raises(InputError, match="a worker of 16 GPUs fits no node of 8"):
        prepare("generate", [wide], Target(storage=URI))
