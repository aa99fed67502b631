"""`lint` for a cluster: renders what would be installed and judges it, without a cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lima.errors import InputError
from lima.lint import LEVELS, Finding
from lima.spec import CellSpec
from lima_k8s.cluster.read.uris import is_for_pods
from lima_k8s.cluster.rules.manifests import manifest_findings
from lima_k8s.cluster.rules.study import cell_findings, cluster_findings, not_of_this_machine

ANYWHERE = "s3://bucket/prefix"
"""A storage to render with where a profile names none: its URI is not what is judged."""
ANY_REGISTRY = "registry.invalid"
"""The same for images."""


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
    findings: Sequence[Finding],
    cells: Sequence[CellSpec],
    kinds: Mapping[str, Sequence[CellSpec]],
    profile: str,
) -> list[Finding]:
    """Return the findings on a study that runs on a cluster.

    Args:
        findings: Those on the study alone.
        cells: The study.
        kinds: What it can be submitted as, with the cells that each would run.
        profile: Of the cluster.

    Raises:
        InputError: there is no such profile, or no Helm.

    """
    from lima_k8s.profile.cluster_spec import load_cluster

    cluster = load_cluster(profile)
    found = [
        *not_of_this_machine(findings),
        *cluster_findings(cluster),
        *cell_findings(cells, cluster),
    ]
    if any(finding.level == "error" for finding in found):
        return _sorted(found)  # a chart need not render what cannot run
    storage = cluster.storage.uri if is_for_pods(cluster.storage.uri) else ANYWHERE
    return _sorted([*found, *_rendered_findings(kinds, profile, storage)])


def _rendered_findings(
    kinds: Mapping[str, Sequence[CellSpec]], profile: str, storage: str
) -> list[Finding]:
    """Judge what `submit` would install for each kind.

    What is wrong in many objects alike is told once, of the first, with the charts that have it.
    """
    from lima_k8s.cluster.submit.helm import Helm
    from lima_k8s.cluster.submit.launch import Target, assemble
    from lima_k8s.profile.assets import chart
    from lima_k8s.profile.kinds import CHARTS

    places: dict[Finding, list[tuple[str, str]]] = {}
    for kind, cells in kinds.items():
        submission = assemble(kind, cells, Target(profile=profile, storage=storage))
        image = {"registry": ANY_REGISTRY, **submission.cluster.get("image", {})}
        submission = replace(submission, cluster={**submission.cluster, "image": image})
        for release, values in submission.releases():
            text = Helm("lima").template(release, chart(CHARTS[kind]), values)
            for finding in manifest_findings(_documents(text, profile)):
                place = (CHARTS[kind], finding.path)
                places.setdefault(replace(finding, path=""), []).append(place)
    return [replace(finding, path=_where(found)) for finding, found in places.items()]


def _where(places: Sequence[tuple[str, str]]) -> str:
    charts, paths = (list(dict.fromkeys(names)) for names in zip(*places, strict=True))
    more = f", and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{', '.join(charts)}: {paths[0]}{more}"


def _documents(text: str, name: str) -> list[dict[str, Any]]:
    import yaml

    try:
        found = list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not YAML ({' '.join(str(error).split())})") from None
    return [document for document in found if isinstance(document, dict)]


def _sorted(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: LEVELS.index(f.level))
