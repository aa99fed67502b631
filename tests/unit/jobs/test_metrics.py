"""A run's figures at Ray's own metrics endpoint, and the dashboard that shows them."""

import json
import os
import re
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from prometheus_client.parser import text_string_to_metric_families
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from lima.common.clock import now
from lima.common.process import began
from lima.common.variables import SUBMITTED_AT
from lima.errors import Interrupted
from lima.runs import ledger
from lima.runs.effort import waited_seconds
from lima.runs.ledger import attempt
from lima.runs.stop import request_stop
from lima.spec import CellSpec
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS
from lima_jobs.metrics import METRICS, TAGS, RunMetrics
from lima_jobs.run import run_stage
from lima_jobs.session import ray_session
from tests.conftest import ROOT
from tests.helpers.models import make_base, small_cell
from tests.helpers.processes.prometheus import Prometheus, prometheus

DASHBOARD = json.loads(
    (ROOT / "charts" / "lima-queue" / "dashboards" / "lima-runs.json").read_text("utf-8")
)
Samples = dict[str, list[tuple[dict[str, str], float]]]
"""Labels and values by the names of metrics."""


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> CellSpec:
    """Return a training that goes on until it is stopped."""
    return small_cell(make_base(tmp_path_factory.mktemp("base")), epochs=100_000)


@pytest.fixture(scope="module")
def session(cell: CellSpec) -> Iterator[None]:
    with ray_session([cell]):
        yield


def exporter() -> str:
    """Return where Ray's node tells its metrics, as HOST:PORT."""
    (node,) = ray.nodes()
    return f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"


def scraped() -> Samples:
    """Return what Prometheus would read now."""
    with urllib.request.urlopen(f"http://{exporter()}/metrics") as answer:
        text = answer.read().decode()
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def scraped_until(names: set[str], run: str) -> Samples:
    """Return what Prometheus reads once it has all these of a run."""
    pause = threading.Event()
    while True:
        found = scraped()
        if all(any(s[0].get("run") == run for s in found.get(name, ())) for name in names):
            return found
        pause.wait(0.5)


@pytest.fixture(scope="module")
def samples(
    cell: CellSpec, session: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Samples]:
    """Return what is read while a run trains that was submitted ten minutes before its job."""
    folder = tmp_path_factory.mktemp("study")
    submitted = datetime.fromtimestamp(began(os.getpid()), UTC) - timedelta(minutes=10)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setenv("LIMA_STOP_FILE", str(folder / "stop"))
        patch.setenv(SUBMITTED_AT, submitted.isoformat())
        training = pool.submit(run_stage, cell, "train", Storage(str(folder)))
        try:
            yield scraped_until({f"ray_{name}" for name in METRICS}, run_id(cell))
        finally:
            request_stop()
            with pytest.raises(Interrupted):
                training.result()


@pytest.fixture(scope="module")
def server(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Start a Prometheus that reads Ray's metrics while that run trains."""
    with prometheus(exporter(), tmp_path_factory.mktemp("prometheus")) as started:
        started.until("query", query="up == 1")  # it has read all that is in `samples`
        yield started


@pytest.mark.slow
def test_a_run_is_seen_beside_ray(cell: CellSpec, samples: Samples) -> None:
    (step,) = samples["ray_lima_step"]
    own = {"experiment": "unit", "arm": "howto", "seed": "7", "run": run_id(cell)}
    assert step[0].items() >= {**own, "stage": "train"}.items()
    assert step[1] >= 1
    assert [value for _, value in samples["ray_lima_steps"]] == [2.5 * 100_000]
    assert 0 < samples["ray_lima_loss"][0][1] < 20
    assert samples["ray_lima_tokens_per_second"][0][1] > 0
    assert samples["ray_lima_gpu_hours"][0][1] == 0
    assert samples["ray_lima_queue_seconds"][0][1] == pytest.approx(600, abs=1)


@pytest.mark.slow
def test_every_expression_of_the_dashboard_names_what_there_is(samples: Samples) -> None:
    # Of GPUs Ray tells where there are some.
    there = set(samples) | {f"ray_{name}" for name in METRICS_GAUGES if "gpus" in name}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            named = set(re.findall(r"\bray_\w+", expression))
            assert named, panel["title"]
            assert named <= there, panel["title"]
            labels = set(re.findall(r"[{,](\w+)=~", expression))
            for listed in re.findall(r"by \(([^)]*)\)", expression):
                labels |= set(listed.split(", "))
            assert labels <= set(TAGS), panel["title"]
            if labels:
                shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                assert shown <= labels, panel["title"]
    queries = [v["definition"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    assert {name for q in queries for name in re.findall(r"\bray_\w+", q)} <= there


@pytest.mark.slow
def test_prometheus_answers_every_variable_and_panel_of_the_dashboard(server: Prometheus) -> None:
    chosen: dict[str, str] = {}
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            # What Grafana makes of its own function.
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert asked
            match = with_variables(asked[1], chosen)
            values = server.answer(f"label/{asked[2]}/values", **{"match[]": match})
            chosen[variable["name"]] = f"({'|'.join(values)})"
    assert chosen == {"experiment": "(unit)", "arm": "(howto)"}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = with_variables(target["expr"], chosen)
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            if "gpus" in expression and not torch.cuda.is_available():
                server.answer("query", query=expression)  # understood, at least
                shown -= {"GpuIndex"}  # beside what tells of the node
                expression = "ray_node_cpu_utilization"
            found = server.answer("query", query=expression)["result"]
            assert found, panel["title"]
            assert all(shown <= set(series["metric"]) for series in found), panel["title"]


def with_variables(expression: str, chosen: dict[str, str]) -> str:
    """Return an expression as Grafana sends it."""
    return re.sub(r"\$(\w+)", lambda found: chosen[found[1]], expression)


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    text = json.dumps(DASHBOARD)
    assert [name for name in METRICS if f"ray_{name}" not in text] == []


def test_the_dashboard_has_what_grafana_asks_of_one() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert re.fullmatch(r"[a-z-]{1,40}", DASHBOARD["uid"])
    assert "id" not in DASHBOARD, "Grafana gives it its own"
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= covered
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.slow
@pytest.mark.usefixtures("session")
def test_gpu_hours_are_those_of_all_attempts(
    cell: CellSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, storage = replace(cell, seed=8), Storage(str(tmp_path))
    assert cell.train
    compute = replace(cell.train.compute, workers=2, device="cuda")
    with monkeypatch.context() as then:
        clock = iter([now() - timedelta(hours=3), now() - timedelta(hours=1)])
        then.setattr(ledger, "now", lambda: next(clock))
        with attempt(storage, cell, "train", compute, run_id(cell)):
            pass
    RunMetrics(storage, cell, "train", 2)(1, 10, {})
    found = scraped_until({"ray_lima_gpu_hours"}, run_id(cell))["ray_lima_gpu_hours"]
    (hours,) = [value for labels, value in found if labels["run"] == run_id(cell)]
    assert hours == pytest.approx(4, abs=0.1)


def test_time_in_the_queue_counts_anew_after_each_attempt() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    hour = timedelta(hours=1)
    ended: dict[str, Any] = {"event": "ended", "at": noon + 2 * hour}
    started: dict[str, Any] = {"event": "started", "at": noon + hour}
    assert waited_seconds([], None, noon) is None
    assert waited_seconds([], noon, noon + hour) == 3600
    assert waited_seconds([started, ended], noon, noon + 5 * hour) == 3 * 3600
    assert waited_seconds([started, ended], noon + 4 * hour, noon + 5 * hour) == 3600
    later = {"event": "ended", "at": noon + 6 * hour}
    assert waited_seconds([later], None, noon) is None, "an attempt of this very job"


@pytest.mark.slow
@pytest.mark.usefixtures("session")
def test_what_cannot_be_read_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(SUBMITTED_AT, "yesterday")
    cell, storage = small_cell(tmp_path / "base"), Storage(str(tmp_path))
    storage.write(RunTable(storage, ATTEMPTS, cell).path("x-ended"), b"PAR1 no more")
    metrics = RunMetrics(storage, cell, "train", 1)
    metrics.tell_wait()
    metrics(1, 10, {"loss": 1.0})
    assert "earlier attempts are not counted" in caplog.text
