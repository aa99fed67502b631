"""Fixtures of the tests on a real cluster: that of LIMA_CLUSTER.

`make cluster-test` brings one up for its tests; LIMA_CLUSTER=dev names that of `make cluster-up`.
Tests run side by side on it, each in a namespace of its own; a test that disturbs the cluster
itself is marked `alone`.
"""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from lima.errors import InputError
from tests.cluster.harness.cluster import VARIABLE, Cluster
from tests.cluster.harness.daemons import S3_ACCESS_KEY, S3_SECRET_KEY
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.layout import S3_PORT
from tests.cluster.helpers.outage import Proxy, proxy
from tests.cluster.helpers.s3 import S3

LONGEST = (
    "test_cohort",
    "test_ablation",
    "test_outage",
    "test_preemption",
    "test_judge",
    "test_generate",
    "test_train",
    "test_many",
    "test_extensions",
    "test_watch",
    "test_retries",
    "test_whole",
    "test_policies",
    "test_platform",
)
"""Files whose tests take minutes each: begun first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here, so that `make test` leaves it out; what must be alone comes last."""
    own = [item for item in items if "tests/cluster/" in item.path.as_posix()]
    for item in own:
        item.add_marker(pytest.mark.cluster)
    if len(own) == len(items):
        items.sort(key=_turn_of)


def _turn_of(item: pytest.Item) -> tuple[bool, int]:
    name = item.path.stem
    alone = item.get_closest_marker("alone") is not None
    return alone, LONGEST.index(name) if name in LONGEST else len(LONGEST)


Say = Callable[[str], None]
MEASURED = "measured"


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Say:
    """Return what has a line printed at the end: what a test measured, from whichever process."""
    return lambda text: record_property(MEASURED, text)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Show at once why a test failed: the last one may end most of an hour later."""
    if report.failed:
        print(f"\n{report.nodeid}: {report.when}\n{report.longreprtext}", flush=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests measured."""
    reports = [r for rs in terminalreporter.stats.values() for r in rs if hasattr(r, "when")]
    for report in (r for r in reports if r.when == "call"):
        for text in (value for name, value in report.user_properties if name == MEASURED):
            terminalreporter.write_line(f"{report.nodeid.rpartition('/')[2]}: {text}")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """Return a cluster that is up."""
    given = Cluster(os.environ.get(VARIABLE, "dev"))
    if not given.is_up:
        raise InputError(
            f"cluster {given.name} is not up; type: make cluster-up, and {VARIABLE}={given.name}, "
            "or make cluster-test"
        )
    return given


@pytest.fixture(autouse=True)
def _turn(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[None]:
    """Let tests of other processes run beside this one, unless it must be alone."""
    alone = request.node.get_closest_marker("alone") is not None
    with (cluster.layout.folder / "turn").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture
def kubectl(cluster: Cluster) -> Kubectl:
    """Return an administrator's kubectl."""
    return cluster.kubectl


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """Yield a new namespace that enforces restricted pod security; it goes with all it holds."""
    name = f"t-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    )
    yield name
    kubectl("delete", "namespace", name)


@pytest.fixture
def s3(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> S3:
    """Return a new bucket, with the variables of this process set for it."""
    bucket = f"study-{secrets.token_hex(4)}"
    (cluster.layout.folder / "s3" / bucket).mkdir()
    storage = S3(cluster.s3_endpoint, S3_ACCESS_KEY, S3_SECRET_KEY, bucket)
    for name, value in storage.environment.items():
        monkeypatch.setenv(name, value)
    return storage


@pytest.fixture
def unreliable(cluster: Cluster) -> Iterator[Proxy]:
    """Yield a proxy before the cluster's S3 server."""
    with proxy(cluster.box.host_address, (cluster.box.address, S3_PORT)) as made:
        yield made
