"""What cannot work, or is rarely meant, of a study on a cluster and of the cluster's profile."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from lima.common.paths import file_name, is_here
from lima.endpoints.keys import KeyOf, keys_of
from lima.errors import SpecError
from lima.lint import Finding
from lima.runs.vllm_python import uses_vllm
from lima.spec import CellSpec, computes, used_extensions
from lima_k8s.profile.cluster_spec import ClusterSpec
from lima_k8s.study.findings import Told
from lima_k8s.study.savings import stop_warning


def not_of_this_machine(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what a pod does not care about: whether a file is on this machine."""
    return [f for f in findings if not f.here_alone]


def cluster_findings(cluster: ClusterSpec) -> list[Finding]:
    """Return what is wrong or worth knowing about a cluster, whatever runs there."""
    checks = (_topology, _shared_memory, _registry, _storage_rights)
    return [Finding(*told) for check in checks for told in check(cluster)]


def cell_findings(cells: Sequence[CellSpec], cluster: ClusterSpec) -> list[Finding]:
    """Return what is wrong or worth knowing about running `cells` on a cluster."""
    found: dict[Told, list[str]] = {}
    for cell in cells:
        for level, path, message, fix in _cell(cell, cluster):
            found.setdefault((level, path, message, fix), []).append(f"{cell.arm}/{cell.seed}")
    return [Finding(*key, runs=tuple(runs)) for key, runs in found.items()]


def _cell(cell: CellSpec, cluster: ClusterSpec) -> Iterator[Told]:
    yield from _gpu_shape(cell, cluster)
    yield from _engine_image(cell, cluster)
    yield from _extensions(cell, cluster)
    yield from _stop(cell, cluster)
    yield from _files(cell)
    yield from _keys(cell, cluster)


def _topology(cluster: ClusterSpec) -> Iterator[Told]:
    """Find a level that the Topology, which is made of `levels`, will not have."""
    level, levels = cluster.topology.level, cluster.topology.levels
    if level and level not in levels:
        there = f"which are {', '.join(levels)}" if levels else "which are empty"
        yield (
            "error",
            "cluster.topology.level",
            f"{level!r} is not among cluster.topology.levels, {there}",
            "name one of them, or add this label of the nodes to them",
        )


def _shared_memory(cluster: ClusterSpec) -> Iterator[Told]:
    """Find shared memory that its pod's memory, of which it is a part, cannot hold."""
    sizes = {
        "head": cluster.head,
        "cpu.worker": cluster.cpu.worker,
        "gpu.worker": cluster.gpu.worker,
    }
    for name, size in sizes.items():
        if size.sharedMemoryGiB > size.memoryGiB:
            yield (
                "error",
                f"cluster.{name}.sharedMemoryGiB",
                f"{size.sharedMemoryGiB:g} GiB are part of {size.memoryGiB:g} GiB of memory, and "
                "more than these: a pod that fills them is killed",
                f"at most {size.memoryGiB:g}, or more cluster.{name}.memoryGiB",
            )


def _registry(cluster: ClusterSpec) -> Iterator[Told]:
    """Find images that only Docker Hub would be asked for."""
    yield from _docker_hubs(cluster, cluster.image.cpu, cluster.image.gpu)


def _engine_image(cell: CellSpec, cluster: ClusterSpec) -> Iterator[Told]:
    """Find the same of the image of an engine that a run asks for."""
    if uses_vllm(cell):
        yield from _docker_hubs(cluster, cluster.image.vllm)


def _extensions(cell: CellSpec, cluster: ClusterSpec) -> Iterator[Told]:
    """Find Python files of the study's own, where jobs would refuse them."""
    used = used_extensions(cell).extensions
    if used and not cluster.extensions:
        yield (
            "error",
            "cluster.extensions",
            f"this cluster runs no Python files of a study's own, and {file_name(used[0].path)} is "
            "one",
            "ask the platform team for cluster.extensions: true in its profile, or for an image "
            "with your package",
        )


def _docker_hubs(cluster: ClusterSpec, *images: str) -> Iterator[Told]:
    names = [name for name in images if "/" not in name]
    if names and not cluster.image.registry:
        yield (
            "warning",
            "cluster.image.registry",
            f"it is not set, so that {names[0]} would be looked for at Docker Hub; the charts "
            "refuse to render that",
            "name where your images are (docs/images.md)",
        )


def _storage_rights(cluster: ClusterSpec) -> Iterator[Told]:
    """Say that nothing names the right to use the storage."""
    named = cluster.storage.secretName or cluster.secrets or cluster.serviceAccount
    if named or cluster.storage.uri.startswith("file://"):
        return
    yield (
        "warning",
        "cluster.storage.secretName",
        "neither a Secret nor a service account is named: at the storage, pods may then only do "
        "what their nodes, or the namespace's default service account, may",
        "name storage.secretName or serviceAccount in the profile; `serviceAccount: default` says "
        "that it is meant",
    )


def _gpu_shape(cell: CellSpec, cluster: ClusterSpec) -> Iterator[Told]:
    """Compare the GPUs of a stage with those of a node."""
    node = cluster.gpu.perNode
    for stage, compute in computes(cell).items():
        if compute.device != "cuda":
            continue
        path = f"{stage}.compute"
        if compute.gpus_per_worker > node:
            yield (
                "error",
                f"{path}.gpus_per_worker",
                f"a worker of {compute.gpus_per_worker} GPUs fits no node of {node}",
                f"--set {path}.gpus_per_worker={node}, or compute.offload",
            )
        elif (compute.workers * compute.gpus_per_worker) % node and compute.workers > node:
            yield (
                "warning",
                f"{path}.workers",
                f"{compute.workers * compute.gpus_per_worker} GPUs do not fill nodes of {node}: "
                "the rest of a node stays empty",
                f"a multiple of {node} GPUs",
            )


def _stop(cell: CellSpec, cluster: ClusterSpec) -> Iterator[Told]:
    """Say how long a stop may take, if that is long."""
    if told := stop_warning(cell, cluster, None):
        yield (
            "note",
            "cluster.stop.uploadMiBps",
            told,
            "set what you measure (lima-k8s plan … --storage), or take more nodes",
        )


def _files(cell: CellSpec) -> Iterator[Told]:
    """Name the files that pods read below the storage."""
    for stage in ("base", "train", "generate"):
        spec = getattr(cell, stage)
        for name in ("data", "heldout", "prompts"):
            data = getattr(spec, name, None)
            if data is None or ":" in data.path or data.path.startswith("/"):
                continue
            path = f"{stage}.{name}.path"
            if is_here(data.path):
                yield ("note", path, f"submit brings {data.path} to the storage", "")
                continue
            yield (
                "note",
                path,
                f"pods read {data.path} below the storage",
                f"put it there, or name another place: --set {path}=s3://…",
            )


def _keys(cell: CellSpec, cluster: ClusterSpec) -> Iterator[Told]:
    """Say that no Secret could hold a key, where a public endpoint will ask for one."""
    if cluster.secrets or cluster.storage.secretName:
        return
    for key in _public_keys(cell):
        if key.variable not in cluster.env:
            yield (
                "warning",
                key.setting,
                f"no Secret is named that could hold {key.variable}, the key of {key.url}; without "
                "the key a run ends before its first stage",
                "name one in cluster.secrets of a profile of your own"
                + (", or --set judge=null" if key.stage == "judge" else ""),
            )


def _public_keys(cell: CellSpec) -> list[KeyOf]:
    with contextlib.suppress(SpecError):  # an address that is none is told without a cluster too
        return [key for key in keys_of(cell) if key.looks_public]
    return []
