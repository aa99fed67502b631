"""What the platform team applies once, on every kind of cluster."""

import json
import re
from typing import Any

import pytest

from lima_k8s.profile.assets import profile, profiles
from lima_k8s.profile.cluster_spec import load_cluster
from tests.charts.tools import (
    ROOT,
    Manifest,
    call,
    manifests,
    of_kind,
    pod_templates,
    refused,
    template,
    values,
)


def queue(cluster: str | None = None, **changes: Any) -> list[Manifest]:
    """Return the manifests of lima-queue."""
    document = {"queue": changes}
    arguments = ["--values", str(profile(cluster))] if cluster else []
    return manifests(template("lima-queue", document, *arguments))


def quotas(documents: list[Manifest]) -> dict[str, dict[str, Any]]:
    """Return the quota of each flavor by resource."""
    (cluster_queue,) = of_kind(documents, "ClusterQueue")
    (group,) = cluster_queue["spec"]["resourceGroups"]
    names = group["coveredResources"]
    for flavor in group["flavors"]:
        assert [r["name"] for r in flavor["resources"]] == names  # Kueue wants the same order
    return {
        flavor["name"]: {r["name"]: r["nominalQuota"] for r in flavor["resources"]}
        for flavor in group["flavors"]
    }


@pytest.mark.parametrize("name", profiles())
def test_quota_is_whole_nodes(name: str) -> None:
    gpu = load_cluster(name).gpu
    found = quotas(queue(name, quota={"gpuNodes": 3, "cpu": 10, "memoryGiB": 20, "diskGiB": 5}))
    assert found["lima-cpu"] == {
        "cpu": "10000m",
        "memory": "20480Mi",
        "ephemeral-storage": "5120Mi",
        gpu.resource: 0,
        **dict.fromkeys(gpu.fabric, 0),
    }
    gpus = 3 * gpu.perNode
    large = found["lima-gpu"]
    assert large[gpu.resource] == gpus
    assert large["cpu"] == f"{int(gpus * gpu.worker.cpu * 1000)}m"
    assert large["memory"] == f"{int(gpus * gpu.worker.memoryGiB * 1024)}Mi"
    for resource, amount in gpu.fabric.items():
        number, unit = re.fullmatch(r"(\d+)(\D*)", amount).groups()  # type: ignore[union-attr]
        assert str(large[resource]) == f"{3 * int(number)}{unit}"


@pytest.mark.parametrize("name", profiles())
def test_flavor_has_labels_taints_and_topology_of_the_nodes(name: str) -> None:
    cluster = load_cluster(name)
    documents = queue(name)
    flavors = {f["metadata"]["name"]: f["spec"] or {} for f in of_kind(documents, "ResourceFlavor")}
    gpu = flavors["lima-gpu"]
    assert gpu.get("nodeLabels", {}) == cluster.gpu.nodeLabels
    assert len(gpu.get("tolerations", [])) == len(cluster.gpu.tolerations)
    levels = [
        level["nodeLabel"] for t in of_kind(documents, "Topology") for level in t["spec"]["levels"]
    ]
    assert levels == list(cluster.topology.levels)
    assert ("topologyName" in gpu) == bool(levels)
    # Kueue refuses a flavor with a topology and no labels.
    assert not levels or gpu["nodeLabels"]
    assert "topologyName" not in flavors["lima-cpu"]


def test_nodes_without_gpus_may_have_taints() -> None:
    equal = {"key": "t", "operator": "Equal", "value": "v"}
    taints = [{"key": "batch", "effect": "NoSchedule"}, equal]
    flavors = of_kind(queue(quota={"tolerations": taints}), "ResourceFlavor")
    (cpu,) = [f["spec"] for f in flavors if f["metadata"]["name"] == "lima-cpu"]
    assert cpu["tolerations"] == [
        {"operator": "Exists", "key": "batch", "effect": "NoSchedule"},
        equal,
    ]


def test_queue_without_gpus_has_one_flavor() -> None:
    documents = queue("eks-p5", quota={"gpuNodes": 0})
    assert set(quotas(documents)) == {"lima-cpu"}
    assert not of_kind(documents, "Topology")
    assert len(of_kind(documents, "ResourceFlavor")) == 1


def test_queues_of_more_teams_share_what_has_no_namespace() -> None:
    submitters = {"users": ["ada"]}
    off = {"enabled": False}
    first = queue("eks-p5", submitters=submitters, admission=off)
    second = queue(
        "eks-p5",
        submitters=submitters,
        namespace="b",
        clusterQueue="b",
        shared=False,
        admission=off,
    )
    names = [
        {(d["kind"], d["metadata"]["name"]) for d in team if "namespace" not in d["metadata"]}
        for team in (first, second)
    ]
    assert names[1] == {
        ("Namespace", "b"),
        ("ClusterQueue", "b"),
        ("ClusterRoleBinding", "lima-queue-reader-b"),
    }
    assert names[0].isdisjoint(names[1])
    assert quotas(second) == quotas(first)


def test_namespace_enforces_restricted_pods() -> None:
    (namespace,) = of_kind(queue(namespace="study"), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespace["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    documents = queue(namespace="study")
    (cluster_queue,) = of_kind(documents, "ClusterQueue")
    selector = cluster_queue["spec"]["namespaceSelector"]["matchLabels"]
    assert selector == {"kubernetes.io/metadata.name": "study"}
    assert not of_kind(queue(createNamespace=False), "Namespace")


def test_priorities_are_those_that_runs_name() -> None:
    found = {
        p["metadata"]["name"]: p["value"]
        for p in of_kind(queue(priorities={"high": 7}), "WorkloadPriorityClass")
    }
    assert found == {"lima-low": -100, "lima-normal": 0, "lima-high": 7}
    assert load_cluster().priorityClass in found


def test_priorities_outlive_the_release_that_made_them() -> None:
    made = of_kind(queue(), "WorkloadPriorityClass")
    assert len(made) == 3
    for priority in made:
        assert priority["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_rights_of_submitters() -> None:
    submitters = {"users": ["ada@x"], "groups": ["research"], "serviceAccounts": ["ci/runner"]}
    documents = queue(submitters=submitters)
    (role,) = of_kind(documents, "Role")
    verbs = {
        (resource): set(rule["verbs"]) for rule in role["rules"] for resource in rule["resources"]
    }
    assert {"create", "get", "list", "watch", "delete"} <= verbs["rayjobs"]
    assert "*" not in {verb for own in verbs.values() for verb in own}
    # Nobody changes queues, or what the operators make.
    assert verbs["workloads"] == verbs["localqueues"] == verbs["jobs"] == {"get", "list", "watch"}
    for binding in of_kind(documents, "RoleBinding") + of_kind(documents, "ClusterRoleBinding"):
        assert {(s["kind"], s["name"]) for s in binding["subjects"]} == {
            ("User", "ada@x"),
            ("Group", "research"),
            ("ServiceAccount", "runner"),
        }
    (reader,) = of_kind(documents, "ClusterRole")
    assert {v for rule in reader["rules"] for v in rule["verbs"]} == {"get", "list", "watch"}


def test_without_submitters_nobody_is_bound_and_secrets_can_be_closed() -> None:
    documents = queue(submitters={"helmSecrets": False})
    assert not of_kind(documents, "RoleBinding")
    (role,) = of_kind(documents, "Role")
    assert not any("secrets" in rule["resources"] for rule in role["rules"])
    wrong = {"queue": {"submitters": {"serviceAccounts": ["runner"]}}}
    assert '"runner" is not NAMESPACE/NAME' in refused("lima-queue", wrong)


def policy_of_runs(documents: list[Manifest]) -> Manifest:
    """Return the NetworkPolicy of the pods of runs."""
    found = {p["metadata"]["name"]: p for p in of_kind(documents, "NetworkPolicy")}
    closed = found["lima-default-deny"]["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return found["lima-runs"]


def test_the_port_of_the_storage_is_open() -> None:
    for endpoint, port in (("http://s3:7070", [7070]), ("https://s3.example.com/x", [])):
        document = {"cluster": {"storage": {"endpoint": endpoint}}}
        policy = policy_of_runs(manifests(template("lima-queue", document)))
        (anywhere,) = [rule for rule in policy["spec"]["egress"] if "to" not in rule]
        assert [p["port"] for p in anywhere["ports"]] == [443, 6443, *port]
    closed = of_kind(queue(networkPolicy={"defaultDeny": False}), "NetworkPolicy")
    assert [p["metadata"]["name"] for p in closed] == ["lima-runs"]


FLAVORS = [
    {"name": "h100", "nodes": 2, "nodeLabels": {"gpu": "h100"}},
    {"name": "spot", "tolerations": [{"key": "spot"}], "perNode": 4, "topology": False},
    {
        "name": "mig",
        "resource": "nvidia.com/mig-1g.10gb",
        "perNode": 56,
        "cpu": 96,
        "memoryGiB": 900,
        "fabric": False,
    },
    {"name": "none", "nodes": 0},
]


def test_kinds_of_gpus_are_a_list() -> None:
    documents = queue("eks-p5", flavors=FLAVORS, prefix="team")
    found = quotas(documents)
    assert list(found) == ["team-cpu", "team-h100", "team-spot", "team-mig"]
    gpu, slices = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
    assert [q[gpu] for q in found.values()] == [0, 16, 4, 0]
    assert [q[slices] for q in found.values()] == [0, 0, 0, 56]
    assert (found["team-mig"]["cpu"], found["team-mig"]["memory"]) == ("96000m", "921600Mi")
    assert found["team-mig"]["vpc.amazonaws.com/efa"] == 0
    flavors = {f["metadata"]["name"]: f["spec"] for f in of_kind(documents, "ResourceFlavor")}
    assert set(flavors) == set(found)
    # Pods without GPUs do not tolerate these marks.
    marks = {name: [t["value"] for t in f.get("nodeTaints", [])] for name, f in flavors.items()}
    assert marks == {
        "team-cpu": [],
        "team-h100": ["h100"],
        "team-spot": ["spot"],
        "team-mig": ["mig"],
    }
    assert [name for name, f in flavors.items() if "topologyName" in f] == ["team-h100", "team-mig"]
    twice = {"queue": {"flavors": [{"name": "a"}, {"name": "a"}]}}
    assert "two flavors are called" in refused("lima-queue", twice, "-n", "platform")


def test_a_run_names_a_kind_of_gpu_or_takes_the_first() -> None:
    for flavor, expected in (
        ("", {"operator": "Exists"}),
        ("spot", {"operator": "Equal", "value": "spot"}),
    ):
        (job,) = of_kind(
            manifests(template("lima-train", values(gpu={"flavor": flavor}))), "RayJob"
        )
        pods = pod_templates(job)
        mark = {"key": "lima-k8s.io/flavor", "effect": "NoSchedule", **expected}
        assert pods["workers"]["spec"]["tolerations"] == [mark]
        assert not any("tolerations" in pods[role]["spec"] for role in ("head", "submitter"))


def test_what_may_be_borrowed_and_lent() -> None:
    quota = {"gpuNodes": 1, "cpu": 10, "borrow": 0.5, "lend": 0}
    (lending,) = of_kind(queue(cohort="all", quota=quota), "ClusterQueue")
    flavors = lending["spec"]["resourceGroups"][0]["flavors"]
    limits = {r["name"]: r for r in flavors[0]["resources"]}["cpu"]
    assert (limits["borrowingLimit"], limits["lendingLimit"]) == ("5000m", "0m")
    for alone in (queue(quota=quota), queue(cohort="all")):
        (found,) = of_kind(alone, "ClusterQueue")
        assert "Limit" not in str(found["spec"]["resourceGroups"])


def test_two_releases_share_no_name_in_the_cluster() -> None:
    names = []
    for release in ("a-queue", "b-queue"):
        document = {"queue": {"namespace": release[0], "submitters": {"users": ["ada"]}}}
        documents = manifests(template("lima-queue", document, release=release))
        names.append(
            {
                (d["kind"], d["metadata"]["name"])
                for d in documents
                if "namespace" not in d["metadata"] and d["kind"] != "WorkloadPriorityClass"
            }
        )
    assert names[0].isdisjoint(names[1])
    assert len(names[0]) == 14


def test_admission_policies_are_an_option_and_need_kubernetes_1_30() -> None:
    kind = "ValidatingAdmissionPolicy"
    assert len(of_kind(queue(), kind)) == 4
    assert not of_kind(queue(admission={"enabled": False}), kind)
    old = template("lima-queue", {}, "--kube-version", "1.29.0")
    assert not of_kind(manifests(old), kind)


def test_network_policy_opens_only_what_is_named() -> None:
    policy = policy_of_runs(queue(networkPolicy={"egressPorts": [443, 7070]}))
    spec = policy["spec"]
    assert spec["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "lima-k8s"}
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    anywhere = [rule for rule in spec["egress"] if "to" not in rule]
    assert [[p["port"] for p in rule["ports"]] for rule in anywhere] == [[443, 7070]]
    assert all("from" in rule for rule in spec["ingress"])
    ports = [[p["port"] for p in rule["ports"]] for rule in spec["ingress"] if "ports" in rule]
    assert ports == [[8265], [8080]]
    assert not of_kind(queue(networkPolicy={"enabled": False}), "NetworkPolicy")


def test_pod_monitor_is_an_option() -> None:
    assert not of_kind(queue(), "PodMonitor")
    (monitor,) = of_kind(queue(podMonitor={"enabled": True, "labels": {"a": "b"}}), "PodMonitor")
    assert monitor["metadata"]["labels"]["a"] == "b"


def test_the_dashboard_is_an_option() -> None:
    usual = {document["metadata"]["name"] for document in of_kind(queue(), "ConfigMap")}
    found = of_kind(queue(dashboard={"enabled": True}), "ConfigMap")
    (made,) = [d for d in found if d["metadata"]["name"] not in usual]
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    file = ROOT / "charts" / "lima-queue" / "dashboards" / "lima-runs.json"
    assert json.loads(made["data"]["lima-runs.json"]) == json.loads(file.read_text("utf-8"))


def test_rules_of_the_users_own_and_the_metadata_server() -> None:
    rule = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
    changes = {"extraEgress": [rule], "metadataServer": True}
    policy, usual = policy_of_runs(queue(networkPolicy=changes)), policy_of_runs(queue())
    more = [r for r in policy["spec"]["egress"] if r not in usual["spec"]["egress"]]
    link_local = {"ipBlock": {"cidr": "169.254.0.0/16"}}
    ports = [{"protocol": "TCP", "port": port} for port in (80, 988)]
    assert more == [{"to": [link_local], "ports": ports}, rule]


def test_a_namespace_that_is_there_already_is_not_made() -> None:
    said = refused("lima-queue", {}, "-n", "lima")
    assert "queue.namespace: lima is the namespace of this release" in said
    assert "--set queue.createNamespace=false" in said
    there = template("lima-queue", {"queue": {"createNamespace": False}}, "-n", "lima")
    assert not of_kind(manifests(there), "Namespace")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"networkPolicy": {"egressPorts": [0]}}, "/queue/networkPolicy/egressPorts/0"),
        ({"networkPolicy": {"egressPorts": [99999]}}, "/queue/networkPolicy/egressPorts/0"),
        ({"namespace": "Bad_NS"}, "/queue/namespace"),
        ({"localQueue": "a b"}, "/queue/localQueue"),
    ],
)
def test_what_kubernetes_would_refuse_the_schema_refuses(
    changes: dict[str, Any], said: str
) -> None:
    assert said in refused("lima-queue", {"queue": changes})


def test_the_next_command_names_the_queue_that_was_made() -> None:
    made = call(
        "helm",
        "install",
        "q",
        ROOT / "charts" / "lima-queue",
        "--dry-run=client",
        "-n",
        "platform",
        "--set-string",
        "queue.localQueue=2024",
    )
    assert "--set-string cluster.queue=2024" in made.stdout
    assert "helm upgrade q CHART -n platform" in made.stdout


def test_a_broken_amount_of_a_network_device_is_not_rounded() -> None:
    given = {"cluster": {"gpu": {"fabric": {"hugepages-2Mi": "1.5Gi"}}}}
    assert "is not a whole amount such as 32 or 5120Mi" in refused("lima-queue", given)
