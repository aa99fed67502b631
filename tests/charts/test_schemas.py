"""Rendered manifests against the operators' own CRDs, by kubeconform, offline."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lima_k8s.profile.assets import profile, profiles
from lima_k8s.profile.kinds import CHARTS
from tests.charts.tools import ROOT, call, manifests, of_kind, template, values

CRDS = {
    "kuberay-operator": ("github.com/ray-project/kuberay/ray-operator", "config/crd/bases"),
    "kueue": ("sigs.k8s.io/kueue", "config/components/crd/bases"),
}
"""The module of each operator, pinned in tests/tools, and where its CRDs lie."""
BUILT_IN = {
    "ConfigMap",
    "Pod",
    "Namespace",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "NetworkPolicy",
    "ResourceQuota",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
"""Judged by a real API server in tests/cluster; the pods also here, within RayJob."""


def folder_of(tool: str) -> Path:
    module, path = CRDS[tool]
    answer = subprocess.run(
        ["go", "mod", "download", "-json", module],
        cwd=ROOT / "tests" / "tools" / tool,
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(json.loads(answer.stdout)["Dir"]) / path


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a CRD's schema as JSON Schema that refuses unknown keys, as the API server does."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    changed = dict(schema)
    if "properties" in schema:
        changed["properties"] = {k: strict(v) for k, v in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            changed.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(changed.get(key), dict):
            changed[key] = strict(changed[key])
    if schema.get("nullable"):
        changed["type"] = [schema["type"], "null"]
    return changed


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the schema of every custom resource; return their folder."""
    folder = tmp_path_factory.mktemp("schemas")
    for tool in CRDS:
        for file in folder_of(tool).glob("*.yaml"):
            for kind, version, schema in versions(yaml.load(file.read_bytes(), yaml.CSafeLoader)):
                schema["properties"] |= {"metadata": {"type": "object"}}
                (folder / f"{kind.lower()}-{version}.json").write_text(json.dumps(schema))
    return folder


def versions(crd: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for version in crd["spec"]["versions"]:
        schema = strict(version["schema"]["openAPIV3Schema"])
        yield crd["spec"]["names"]["kind"], version["name"], schema


def conform(text: str, schemas: Path) -> dict[str, Any]:
    location = f"{schemas}/{{{{.ResourceKind}}}}-{{{{.ResourceAPIVersion}}}}.json"
    result = call(
        "kubeconform",
        "-output",
        "json",
        "-verbose",
        "-skip",
        ",".join(sorted(BUILT_IN)),
        "-schema-location",
        location,
        "-",
        text=text,
    )
    assert result.stdout, result.stderr
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize("cluster", profiles())
@pytest.mark.parametrize("chart", ["lima-queue", *CHARTS.values()])
def test_manifests_are_what_the_crds_ask(chart: str, cluster: str, schemas: Path) -> None:
    document = {} if chart == "lima-queue" else values()
    text = template(chart, document, "--values", profile(cluster))
    found = conform(text, schemas)["resources"]
    assert [r for r in found if r["status"] not in ("statusValid", "statusSkipped")] == []
    custom = [d for d in manifests(text) if d["kind"] not in BUILT_IN]
    assert sum(r["status"] == "statusValid" for r in found) == len(custom) > 0


def test_storage_test_is_a_pod(schemas: Path) -> None:
    """Its spec is judged by the schema that RayJob's CRD has of pods."""
    (pod,) = of_kind(manifests(template("lima-train")), "Pod")
    (job,) = of_kind(manifests(template("lima-train")), "RayJob")
    job["spec"]["submitterPodTemplate"]["spec"] = pod["spec"]
    (found,) = conform(yaml.safe_dump(job), schemas)["resources"]
    assert found["status"] == "statusValid", found
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_unknown_and_misplaced_keys_are_seen(schemas: Path) -> None:
    """The check above must be able to fail."""
    (job,) = of_kind(manifests(template("lima-train")), "RayJob")
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imag"] = (
        "x"
    )
    (found,) = conform(yaml.safe_dump(job), schemas)["resources"]
    assert found["status"] == "statusInvalid"
    assert "imag" in found["msg"]
