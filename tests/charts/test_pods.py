"""What a cluster's values put into the pods of runs, and that every value does something."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from lima.recipes.overrides import apply_overrides
from lima.recipes.paper import lima_65b
from lima.spec.codec import encode, field_types, spec_type
from lima_k8s.cluster.rules.manifests import manifest_findings
from lima_k8s.profile.cluster_spec import ClusterSpec, PodSpec, merge
from lima_k8s.profile.queue_spec import QueueSpec
from tests.charts.restricted import violations
from tests.charts.tools import (
    REGISTRY,
    STORAGE,
    Manifest,
    manifests,
    of_kind,
    pod_templates,
    template,
    values,
)

ROLES = {"head": "head", "workers": "worker", "submitter": "submitter"}
TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
ALL: dict[str, Any] = {
    "labels": {"team": "vision"},
    "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
    "env": {"HTTPS_PROXY": "http://proxy:3128"},
    "volumes": [{"name": "sets", "persistentVolumeClaim": {"claimName": "data-sets"}}],
    "volumeMounts": [{"name": "sets", "mountPath": "/sets"}],
    "initContainers": [{"name": "fetch", "image": "r.example/fetch"}],
    "nodeSelector": {"zone": "a"},
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TERM]}
        },
    },
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "tolerations": [{"key": "batch", "operator": "Exists"}],
    "schedulerName": "volcano",
    "priorityClassName": "batch",
    "hostNetwork": True,
    "podOverrides": {"spec": {"dnsPolicy": "Default"}},
}


def job(**cluster: Any) -> Manifest:
    (found,) = of_kind(manifests(template("lima-train", values(**cluster))), "RayJob")
    return found


def test_every_value_of_pods_is_tried_here() -> None:
    assert set(ALL) == set(encode(PodSpec()))


@pytest.mark.parametrize("role", ROLES)
def test_pods_of_a_role_have_what_is_said_of_it(role: str) -> None:
    usual, changed = pod_templates(job()), pod_templates(job(pods={ROLES[role]: ALL}))
    assert {name for name in usual if usual[name] != changed[name]} == {role}
    pod, before = changed[role], usual[role]
    for key in ("labels", "annotations"):
        assert pod["metadata"][key].items() >= ALL[key].items()
        assert pod["metadata"][key].items() >= before["metadata"].get(key, {}).items()
    container, own = pod["spec"]["containers"][0], before["spec"]["containers"][0]
    assert container["env"] == [*own["env"], {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]
    for key in ("volumes", "tolerations"):
        assert pod["spec"][key] == [*before["spec"].get(key, []), *ALL[key]]
    assert container["volumeMounts"] == [*own["volumeMounts"], *ALL["volumeMounts"]]
    same = (
        "initContainers",
        "nodeSelector",
        "affinity",
        "topologySpreadConstraints",
        "schedulerName",
        "priorityClassName",
        "hostNetwork",
    )
    assert {key: pod["spec"][key] for key in same} == {key: ALL[key] for key in same}
    assert pod["spec"]["dnsPolicy"] == "Default"


def test_what_is_said_of_all_is_in_all_and_a_roles_word_is_the_last() -> None:
    pods = {"all": {"env": {"A": "all", "B": "all"}}, "head": {"env": {"B": "head"}}}
    documents = manifests(template("lima-train", values(pods=pods)))
    (test,) = of_kind(documents, "Pod")
    for role, pod in {**pod_templates(of_kind(documents, "RayJob")[0]), "test": test}.items():
        found = {e["name"]: e["value"] for e in pod["spec"]["containers"][0]["env"]}
        assert (found["A"], found["B"]) == ("all", "head" if role == "head" else "all")


def test_overrides_are_a_strategic_merge() -> None:
    overrides = {
        "metadata": {"labels": {"lima-k8s.io/run": "other", "mine": "1"}},
        "spec": {
            "terminationGracePeriodSeconds": 7,
            "volumes": [{"name": "cache", "emptyDir": None, "ephemeral": {}}],
            "containers": [
                {"name": "ray-worker", "env": [{"name": "HOME", "value": "/h"}], "lifecycle": None},
                {"name": "exporter", "image": "r.example/exporter"},
            ],
        },
    }
    usual = pod_templates(job())["workers"]
    pod = pod_templates(job(pods={"worker": {"podOverrides": overrides}}))["workers"]
    labels = pod["metadata"]["labels"]
    assert (labels["mine"], labels["lima-k8s.io/run"]) == (
        "1",
        usual["metadata"]["labels"]["lima-k8s.io/run"],
    )
    spec = pod["spec"]
    assert spec["terminationGracePeriodSeconds"] == 7
    assert {v["name"]: v for v in spec["volumes"]}["cache"] == {"name": "cache", "ephemeral": {}}
    assert len(spec["volumes"]) == len(usual["spec"]["volumes"])
    assert [c["name"] for c in spec["containers"]] == ["ray-worker", "exporter"]
    worker = spec["containers"][0]
    assert "lifecycle" not in worker
    assert worker["resources"] == usual["spec"]["containers"][0]["resources"]
    assert [e["value"] for e in worker["env"] if e["name"] == "HOME"] == ["/h"]


def test_large_numbers_stay_whole() -> None:
    """As the user ids that OpenShift gives to namespaces."""
    for pod in pod_templates(job(user=1_000_700_000, pods={"all": ALL})).values():
        assert pod["spec"]["securityContext"]["runAsUser"] == 1_000_700_000


def test_certificates_are_in_every_pod() -> None:
    documents = manifests(template("lima-train", values(caBundle={"configMap": "ca", "key": "k"})))
    (test,) = of_kind(documents, "Pod")
    for pod in [*pod_templates(of_kind(documents, "RayJob")[0]).values(), test]:
        (container,) = pod["spec"]["containers"]
        found = {e["name"]: e["value"] for e in container["env"]}
        assert found["AWS_CA_BUNDLE"] == found["SSL_CERT_FILE"] == "/etc/lima-ca/k"
        assert {"name": "lima-ca", "configMap": {"name": "ca"}} in pod["spec"]["volumes"]
        assert violations(pod["spec"]) == []


def test_every_pod_counts_its_disk() -> None:
    documents = manifests(template("lima-train", values()))
    (test,) = of_kind(documents, "Pod")
    for pod in [*pod_templates(of_kind(documents, "RayJob")[0]).values(), test]:
        resources = pod["spec"]["containers"][0]["resources"]
        assert "ephemeral-storage" in resources["requests"]
        assert "ephemeral-storage" in resources["limits"]


@pytest.mark.parametrize(
    ("role", "overrides", "said"),
    [
        ("submitter", {"spec": {"restartPolicy": "Always"}}, "spec.restartPolicy"),
        ("worker", {"spec": {"nodeName": "n1"}}, "passes the scheduler"),
        ("head", {"spec": {"hostNetwork": True}}, "restricted"),
        ("worker", {"spec": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}}, "hostPath"),
        ("head", {"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "q"}}}, "by itself too"),
        ("worker", {"spec": {"activeDeadlineSeconds": 9}}, "cluster.deadlineSeconds"),
    ],
)
def test_what_is_not_admitted_is_linted(role: str, overrides: Manifest, said: str) -> None:
    found = manifest_findings([job(pods={role: {"podOverrides": overrides}})])
    assert any(said in f"{f.path} {f.message} {f.fix}" for f in found), found
    assert not [f for f in manifest_findings([job()]) if f.level == "error"]


# Values that take effect only beside others; or that say what text, sizes and tests say already.
BESIDE: dict[str, Any] = {
    "cluster.topology.level": {"topology": {"levels": ["rack"]}},
    "cluster.topology.required": {"topology": {"levels": ["rack"], "level": "rack"}},
    "cluster.caBundle.key": {"caBundle": {"configMap": "ca"}},
    "cluster.autoscaling.minPods": {"autoscaling": {"enabled": True}},
    "cluster.autoscaling.idleSeconds": {"autoscaling": {"enabled": True}},
    "cluster.autoscaling.withTopology": {
        "autoscaling": {"enabled": True},
        "topology": {"levels": ["rack"]},
    },
    "queue.reclaim": {"cohort": "c"},
    "queue.quota.borrow": {"cohort": "c"},
    "queue.quota.lend": {"cohort": "c"},
    "queue.podMonitor.labels": {"podMonitor": {"enabled": True}},
    "queue.dashboard.labels": {"dashboard": {"enabled": True}},
    "queue.submitters.helmSecrets": {},
}
SAMPLES = {
    "cluster.storage.uri": "s3://other/x",
    "cluster.topology.levels": ["rack"],
    "cluster.topology.level": "rack",
    "cluster.tolerations": [{"key": "k"}],
    "cluster.gpu.tolerations": [{"key": "k"}],
    "cluster.rayVersion": "2.61.0",
    "cluster.storage.endpoint": "http://s3:7070",
    "cluster.image.pullPolicy": "Always",
    "queue.flavors": [{"name": "h100"}],
    "queue.quota.tolerations": [{"key": "k"}],
    "queue.admissionChecks": [{"name": "check"}],
    "queue.submitters.serviceAccounts": ["a/b"],
    "queue.admission.high.serviceAccounts": ["a/b"],
    "queue.admission.operators": ["a/b"],
    "queue.admission.podMemory": "3Gi",
    "queue.fungibility.whenCanBorrow": "TryNextFlavor",
    "queue.fungibility.whenCanPreempt": "MayStopSearch",
    "queue.preemption": "Never",
    "queue.reclaim": "Never",
    "queue.networkPolicy.egressPorts": [1],
    "queue.networkPolicy.extraEgress": [{"to": []}],
}


def leaves(kind: type, default: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield the path of every value, and another one than its default."""
    for name, value in default.items():
        nested, where = spec_type(field_types(kind)[name]), f"{path}.{name}"
        if where.startswith("cluster.pods"):
            continue  # above
        if nested and isinstance(value, dict):
            yield from leaves(nested, value, where)
        elif where in SAMPLES:
            yield where, SAMPLES[where]
        elif isinstance(value, bool):
            yield where, not value
        elif isinstance(value, int | float) or value is None:
            yield where, (value or 0) + 3
        else:
            yield where, "other" if isinstance(value, str) else _filled(value)


def _filled(value: Any) -> Any:
    return ["other"] if isinstance(value, list) else {"other": "1"}


@cache
def rendered(chart: str, values_json: str) -> str:
    return template(chart, json.loads(values_json))


def nested_value(path: str, value: Any) -> dict[str, Any]:
    found: Any = value
    for name in reversed(path.split(".")[1:]):
        found = {name: found}
    return dict(found)


CLUSTER = [*leaves(ClusterSpec, encode(ClusterSpec()), "cluster")]
QUEUE = [*leaves(QueueSpec, encode(QueueSpec()), "queue")]


def test_every_value_of_a_cluster_does_something() -> None:
    given = {"storage": {"uri": STORAGE}, "image": {"registry": REGISTRY}}
    trained = {"runs": [encode(cell) for cell in lima_65b()]}
    sampled = {"runs": [encode(c) for c in apply_overrides(lima_65b(), ["generate.engine=vllm"])]}
    charts = {"curate": {}, "train": trained, "generate": sampled}
    idle = []
    for path, value in CLUSTER:
        base = merge(given, BESIDE.get(path, {}))
        changed = merge(base, nested_value(path, value))
        kind = "curate" if ".cpu" in path and "gpu" not in path else "train"
        kind = "generate" if "vllm" in path else kind
        texts = [
            rendered(f"lima-{kind}", json.dumps({"cluster": c, **charts[kind]}))
            for c in (base, changed)
        ]
        if texts[0] == texts[1]:
            idle.append(path)
    # That of a node's labels and taints is the queue's part of a profile.
    assert idle == ["cluster.gpu.nodeLabels", "cluster.gpu.tolerations"]


def test_every_value_of_a_queue_does_something() -> None:
    idle = []
    for path, value in QUEUE:
        base = BESIDE.get(path, {})
        changed = merge(base, nested_value(path, value))
        texts = [rendered("lima-queue", json.dumps({"queue": queue})) for queue in (base, changed)]
        if texts[0] == texts[1]:
            idle.append(path)
    assert idle == []
