"""`lint` for a cluster: renders what would be installed and judges it, without a cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lima.errors import InputError
from lima.lint import LEVELS, Finding
from lima.spec import CellSpec
from lima_k8s.cluster.rules import cell_findings, manifest_findings, not_of_this_machine

ANYWHERE = "s3://bucket/prefix"
"""A storage to render with: its URI is not what is judged."""


def is_manifests(name: str) -> bool:
    """Say whether a file holds manifests with a RayJob, and not a study."""
    path = Path(name).expanduser()
    try:
        return path.is_file() and "kind: RayJob" in path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def lint_manifests(name: str) -> list[Finding]:
    """Return the findings on a file of manifests.

    Raises:
        InputError: it is not YAML.

    """
    return _sorted(manifest_findings(_documents(Path(name).expanduser().read_text("utf-8"), name)))


def lint_cluster(
    findings: Sequence[Finding], cells: Sequence[CellSpec], profile: str
) -> list[Finding]:
    """Return the findings on a study that runs on a cluster.

    Args:
        findings: Those on the study alone.
        cells: The study.
        profile: Of the cluster.

    Raises:
        InputError: there is no such profile, or no Helm.

    """
    from lima_k8s.assets import chart
    from lima_k8s.cluster.helm import Helm
    from lima_k8s.cluster_spec import cluster_values, load_cluster

    found = [*not_of_this_machine(findings), *cell_findings(cells, load_cluster(profile))]
    if any(finding.level == "error" for finding in found):
        return _sorted(found)  # a chart need not render what cannot run
    from lima.codec import encode

    values = cluster_values(profile, {"storage": {"uri": ANYWHERE}})
    text = Helm("lima").template(
        "lint",
        chart("lima-ablation"),
        {"cluster": values, "runs": [encode(cell) for cell in cells]},
    )
    return _sorted([*found, *manifest_findings(_documents(text, profile))])


def _documents(text: str, name: str) -> list[dict[str, Any]]:
    import yaml

    try:
        found = list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not YAML ({' '.join(str(error).split())})") from None
    return [document for document in found if isinstance(document, dict)]


def _sorted(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: LEVELS.index(f.level))
