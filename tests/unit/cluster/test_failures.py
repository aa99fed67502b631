"""What a cluster, a kubeconfig or Helm refuse, in words that say what to do."""

import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml

from lima.errors import ClusterError, InputError, LimaError
from lima_k8s.cluster.read.api import Cluster
from lima_k8s.cluster.read.failures import helm_failed, missing_operator, refused, unreachable
from lima_k8s.main import run
from tests.charts.tools import helm_on_path

__all__ = ["helm_on_path"]
pytestmark = pytest.mark.usefixtures("helm_on_path")

FORBIDDEN = (
    'rayjobs.ray.io is forbidden: User "ann" cannot list resource "rayjobs" in API group '
    '"ray.io" in the namespace "lima"'
)
CLUSTER_WIDE = (
    'clusterqueues.kueue.x-k8s.io "q" is forbidden: User "ann" cannot get resource '
    '"clusterqueues" in API group "kueue.x-k8s.io" at the cluster scope'
)


def status(message: str) -> bytes:
    return json.dumps({"kind": "Status", "message": message}).encode()


@pytest.mark.parametrize(
    ("code", "body", "kind", "words"),
    [
        (401, status("Unauthorized"), ClusterError, "your credentials (401)"),
        (
            403,
            status(FORBIDDEN),
            ClusterError,
            "ann may not list rayjobs.ray.io in namespace 'lima'",
        ),
        (
            403,
            status(CLUSTER_WIDE),
            ClusterError,
            "may not get clusterqueues.kueue.x-k8s.io in the",
        ),
        (403, status("exceeded quota: objects"), InputError, "exceeded quota: objects"),
        (422, status("spec.x: Invalid value"), InputError, "spec.x: Invalid value"),
        (409, status("already exists"), InputError, "already exists"),
        (503, b"<html>gateway</html>", ClusterError, "answers 503 (<html>gateway</html>)"),
    ],
)
def test_an_answer_that_is_no_success(
    code: int, body: bytes, kind: type[LimaError], words: str
) -> None:
    error = refused(code, body, "list rayjobs", "c")
    assert type(error).__mro__[0] is kind or isinstance(error, kind)
    assert words in str(error)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (f"Error: INSTALLATION FAILED: {FORBIDDEN}", 3, "ann may not list rayjobs.ray.io"),
        (
            "Error: INSTALLATION FAILED: Kubernetes cluster unreachable: Get https://x: dial tcp: "
            "connection refused",
            3,
            "the cluster does not answer: Get https://x",
        ),
        ("Error: Kubernetes cluster unreachable: the server has asked: Unauthorized", 3, "answer"),
        ("Error: You must be logged in to the server", 3, "(401)"),
        ('Error: namespaces "x" not found', 2, "no namespace 'x'"),
        (
            'Error: admission webhook "vrayjob.kb.io" denied the request: too many',
            2,
            "refuses these runs: admission webhook",
        ),
        (
            'WARNING: x\nError: unable: no matches for kind "RayJob" in version "ray.io/v1"',
            3,
            "KubeRay is not installed",
        ),
        (
            "Error: values don't meet the specifications of the schema(s)\n- runs: minItems",
            2,
            "the chart refuses these values",
        ),
        (
            'Error: INSTALLATION FAILED: failed calling webhook "mrayjob.kb.io": failed to call '
            "webhook: context deadline exceeded " + 200 * "and one more ",
            3,
            "not quick enough now: failed calling webhook",
        ),
        ("Error: something new", 1, "helm: something new"),
    ],
)
def test_what_helm_says(text: str, code: int, words: str) -> None:
    error = helm_failed(text, "c")
    assert (error.exit_code, words in str(error)) == (code, True), str(error)


def test_an_old_operator_is_told_from_a_missing_one() -> None:
    old = str(missing_operator("Kueue", "workloads.kueue.x-k8s.io/v1beta2", ["v1beta1"]))
    assert "serves v1beta1, but workloads.kueue.x-k8s.io/v1beta2 is needed" in old
    assert "is not installed" in str(missing_operator("KubeRay", "ray.io/v1", []))


def test_network_errors_in_words() -> None:
    refusal = ConnectionRefusedError(111, "Connection refused")
    assert "(connection refused)" in str(unreachable("https://x", refusal))
    certificate = ssl.SSLError("CERTIFICATE_VERIFY_FAILED")
    assert "certificate" in str(unreachable("https://x", certificate))


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write a kubeconfig whose cluster is a port that nobody listens on."""
    config: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "here",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(file))
    return config


COMMANDS = (["status"], ["watch"], ["logs", "r"], ["explain", "r"], ["cancel", "r", "--yes"])
SUBMIT = ["submit", "ablation", "--recipe", "tiny", "--storage", "s3://b/x"]


@pytest.mark.usefixtures("kubeconfig")
@pytest.mark.parametrize("command", [*COMMANDS, SUBMIT])
def test_a_cluster_that_does_not_answer(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "http://127.0.0.1:1: the cluster does not answer (connection refused)" in captured.err


@pytest.mark.usefixtures("kubeconfig")
@pytest.mark.parametrize("command", [*COMMANDS, SUBMIT])
def test_a_context_that_is_not_there(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--context", "her"]) == 2
    assert "error: no context 'her'; did you mean 'here'?" in capsys.readouterr().err


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what says that this is a pod of a cluster."""
    for name in [name for name in os.environ if name.startswith("KUBERNETES_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("current", [{}, {"current-context": ""}, {"current-context": None}])
def test_a_context_that_is_named_need_not_be_current(
    kubeconfig: dict[str, Any], current: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    context = {"cluster": "c", "user": "u", "namespace": "team"}
    kubeconfig["contexts"].append({"name": "prod", "context": context})
    del kubeconfig["current-context"]
    Path(os.environ["KUBECONFIG"]).write_text(yaml.safe_dump({**kubeconfig, **current}))
    cluster = Cluster("prod")
    assert (cluster.context, cluster.namespace) == ("prod", "team")
    assert cluster.server == "http://127.0.0.1:1"
    assert run(["status", "--context", "prod"]) == 3
    assert "the cluster does not answer" in capsys.readouterr().err


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("command", [*COMMANDS, SUBMIT])
def test_no_context_is_current(
    command: list[str], kubeconfig: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig["contexts"].append({"name": "also", "context": {"cluster": "c", "user": "u"}})
    del kubeconfig["current-context"]
    Path(os.environ["KUBECONFIG"]).write_text(yaml.safe_dump(kubeconfig))
    assert run(command) == 2
    said = f"error: {os.environ['KUBECONFIG']} names no current context; choose one with --context"
    assert f"{said}: also, here" in capsys.readouterr().err


def test_of_several_kubeconfigs_the_first_says_what_is_current(
    kubeconfig: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for kubectl and Helm: else releases would go to one cluster and questions to another."""
    other = {**kubeconfig, "current-context": "other"}
    other["contexts"] = [{"name": "other", "context": {"cluster": "c", "user": "u"}}]
    files = {"other": other, "none": {**kubeconfig, "current-context": ""}}
    for name, config in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(config))
    first = os.environ["KUBECONFIG"]
    for paths, current in (
        ([first, tmp_path / "other"], "here"),
        ([tmp_path / "other", first], "other"),
        ([tmp_path / "none", tmp_path / "gone", tmp_path / "other"], "other"),
    ):
        monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, paths)))
        assert Cluster().context == current


@pytest.mark.usefixtures("kubeconfig", "outside")
@pytest.mark.parametrize("text", ["", "contexts: []", "current-context: gone"])
def test_a_kubeconfig_without_contexts(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(os.environ["KUBECONFIG"]).write_text(text)
    for command in (["status"], ["status", "--context", "prod"]):
        assert run(command) == 3
        assert "error: no cluster is configured: " in capsys.readouterr().err


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("command", [*COMMANDS, SUBMIT])
def test_no_kubeconfig(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/no/such/file")
    assert run(command) == 3
    assert "error: no cluster is configured: /no/such/file" in capsys.readouterr().err


@pytest.mark.parametrize("storage", [[], ["--storage", "results"], ["--storage", "file:///x"]])
def test_a_folder_is_no_storage_of_a_cluster(
    storage: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["submit", "ablation", "--recipe", "tiny", *storage]) == 2
    assert "name an object store with --storage s3://BUCKET/PREFIX" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [[*SUBMIT, "--dry-run"], ["lint", "tiny", "--cluster", "cpu-test"]]
)
def test_no_helm(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/var/empty")
    assert run(command) == 2
    assert "no helm on PATH" in capsys.readouterr().err


def test_cancel_wants_to_know_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cancel"]) == 2
    assert run(["cancel", "r", "--all"]) == 2
    assert "name the runs to cancel, or say --all" in capsys.readouterr().err


def test_closed_secrets_advise_helms_other_driver() -> None:
    said = (
        "Error: INSTALLATION FAILED: query: failed to query with labels: secrets is forbidden: "
        'User "ann" cannot list resource "secrets" in API group "" in the namespace "team"'
    )
    assert "export HELM_DRIVER=configmap" in str(helm_failed(said, ""))
    other = said.replace("secrets", "configmaps")
    assert "ask for the role of lima-queue" in str(helm_failed(other, ""))
