"""`explain` against real quota."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.lima import (
    SMALL,
    TINY,
    Lima,
    change_queue,
    lima,
    queue,
    quota,
    two_of_four,
)

__all__ = ["lima", "queue", "quota"]


def test_a_waiting_run_is_explained(lima: Lima) -> None:
    lima.submit(*TINY)
    runs = lima.until(two_of_four)
    waiting = sorted(
        (run for run in runs if not run["admitted"]), key=lambda run: int(run["queue_position"])
    )
    admitted = {run["name"] for run in runs if run["admitted"]}
    [last] = lima.json("explain", waiting[-1]["name"])["runs"]
    assert last["state"] == "queued"
    assert last["ahead"] == [waiting[0]["name"]]
    assert {name.split(" ")[0] for name in last["holding"]} == admitted
    short = {need["resource"] for need in last["needs"] if need["missing"] > 0}
    assert short
    assert all(need["fits_ever"] for need in last["needs"])
    assert "must become free" in last["changes"][0]
    # Of those that ask for the same Kueue looks at one until something moves.
    said = [lima.json("explain", run["name"])["runs"][0]["kueue_says"] for run in waiting]
    assert any("insufficient unused quota" in text for text in said)
    text = lima("explain", waiting[-1]["run_id"]).out
    assert waiting[0]["name"] in text
    assert "QUOTA" in text


@pytest.mark.parametrize("quota", [{"cpu": "100m", "memory": "64Gi"}])
def test_what_can_never_fit_is_said(lima: Lima) -> None:
    lima.submit(*TINY, "--arm", "howto-32", "--seed", "0")
    [told] = lima.until(lambda runs: runs[0]["state"] == "blocked")
    assert told["cause"]["name"] == "quota-never-fits"
    assert told["cause"]["what"].startswith("cpu: ")
    [explained] = lima.json("explain", told["name"])["runs"]
    assert "quota-never-fits" in explained["summary"]
    assert not all(need["fits_ever"] for need in explained["needs"])


def test_a_held_queue_is_said(lima: Lima, kubectl: Kubectl) -> None:
    change_queue(kubectl, lima.namespace, stop=True)
    lima.submit(*TINY, "--seed", "0", "--arm", "howto-32")
    [told] = lima.until(lambda runs: all(run["cause"] for run in runs))
    assert told["cause"]["name"] in ("queue-stopped", "not-managed")
    stopped = {"name": "queue-stopped"}
    [told] = lima.until(lambda runs: (runs[0]["cause"] or {}).items() >= stopped.items())
    assert told["state"] == "queued"


def test_what_becomes_of_a_queue_is_said_of_those_that_wait(lima: Lima, kubectl: Kubectl) -> None:
    lima.submit(*TINY)
    going = {run["name"] for run in lima.until(two_of_four) if run["admitted"]}

    def said(cause: str) -> Callable[[list[dict[str, Any]]], bool]:
        def holds(runs: list[dict[str, Any]]) -> bool:
            assert not any(run["cause"] for run in runs if run["name"] in going), runs
            told = [run["cause"] for run in runs if run["name"] not in going]
            return all(why and why["name"] == cause for why in told)

        return holds

    # Its flavor is one that nobody made.
    flavor, where = f"{lima.namespace}-gone", "/spec/resourceGroups/0/flavors/0/name"
    patch = [{"op": "replace", "path": where, "value": flavor}]
    kubectl("patch", "clusterqueue", lima.namespace, "--type=json", "--patch", json.dumps(patch))
    for run in lima.until(said("queue-stopped")):
        if run["name"] not in going:
            assert flavor in run["cause"]["what"]
            [explained] = lima.json("explain", run["name"])["runs"]
            assert set(explained["waits"]) <= {"behind-others"}, "for no quota"
    assert flavor in lima.submit(*SMALL).err

    kubectl("delete", "localqueue", "lima", f"--namespace={lima.namespace}")
    runs = lima.until(said("queue-missing"))
    states = {run["state"] for run in runs if run["name"] in going}
    assert states <= {"starting", "running", "stopping", "done"}
