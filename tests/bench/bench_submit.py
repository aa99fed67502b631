"""`lima-k8s submit` from command to RayJob accepted, against `kubectl apply` of the same manifest.

LIMA_CLUSTER=dev pytest -m bench tests/bench/bench_submit.py -s
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import cluster, kubectl, namespace, s3
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.layout import BIN
from tests.cluster.helpers.lima import LIMA, ONE, Lima, lima, queue, quota

__all__ = ["cluster", "kubectl", "lima", "namespace", "queue", "quota", "s3"]
ROUNDS = 9
GOAL = 3.0
IMPORTS = "import lima_k8s.main, lima_k8s.commands.study.submit, lima_k8s.cluster.submit.launch"
KUBERNETES = "from lima_k8s.cluster.read.api import _library; _library()"


def ended(command: Sequence[str]) -> float:
    """Return the seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def accepted(command: Sequence[str], where: str, clean: Callable[[], object]) -> float:
    """Return the seconds from the start of a command until the API server has the RayJob."""
    watch = [str(BIN / "kubectl"), "get", "rayjobs", f"--namespace={where}", "--watch-only"]
    watcher = subprocess.Popen([*watch, "--output=name"], stdout=subprocess.PIPE, text=True)
    time.sleep(2)  # until it watches
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert watcher.stdout
    assert watcher.stdout.readline()
    seconds = time.perf_counter() - start
    assert process.wait() == 0
    watcher.kill()
    watcher.wait()
    clean()
    return seconds


def write_manifests(lima: Lima, file: Path) -> None:
    """Write what submit installs, without the pod of `helm test`."""
    documents = [d for d in yaml.safe_load_all(lima.submit(*ONE, "--dry-run").out) if d]
    kept = [d for d in documents if d["kind"] in ("RayJob", "ConfigMap")]
    file.write_text(yaml.safe_dump_all(kept))


@pytest.mark.bench
@pytest.mark.cluster
@pytest.mark.parametrize("quota", [{"cpu": "0", "memory": "0"}])
def test_submit(
    lima: Lima, kubectl: Kubectl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifests = tmp_path / "run.yaml"
    write_manifests(lima, manifests)
    where = ("--namespace", lima.namespace, "--cluster", str(lima.profile))
    submit = [LIMA, "submit", "ablation", *ONE, *where, "--storage", lima.storage]
    apply = [str(BIN / "kubectl"), "apply", f"--filename={manifests}"]
    rounds = [  # side by side, so that all see the same load
        (
            accepted(submit, lima.namespace, lambda: lima("cancel", "--all", "--yes")),
            accepted(apply, lima.namespace, lambda: kubectl("delete", f"--filename={manifests}")),
            ended([sys.executable, "-c", IMPORTS]),
            ended([*submit, "--dry-run"]),
            ended([sys.executable, "-c", KUBERNETES]),
        )
        for _ in range(ROUNDS)
    ]
    own, yardstick, imports, dry, library = map(statistics.median, zip(*rounds, strict=True))
    with capsys.disabled():
        print(
            f"\nsubmit to accepted: {own:.2f} s, kubectl apply: {yardstick:.2f} s, "
            f"ratio {own / yardstick:.1f} (goal: at most {GOAL:g})\n"
            f"parts: imports {imports:.2f} s, study, lint and rendering {dry - imports:.2f} s, the "
            f"rest (Helm and the API server) {own - dry:.2f} s; beside them, the Kubernetes "
            f"library {library:.2f} s"
        )
    assert own / yardstick <= GOAL
