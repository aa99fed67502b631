"""Why a run does not go on, by name: pure functions of what the cluster says.

Every name is a heading of docs/troubleshooting.md.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lima.runs.job_end import read_job_end
from lima_k8s.cluster.causes.job_log import job_errors
from lima_k8s.cluster.causes.queueing import from_queue
from lima_k8s.cluster.read.model import Container, Event, Pod, Queue, Workload
from lima_k8s.runs.model import Cause, Run

CAUSES = {
    "image-pull-failure": "An image cannot be pulled.",
    "init-crash-loop": "An init container fails over and over.",
    "crash-loop": "A container fails over and over.",
    "out-of-memory": "The kernel killed a container at its memory limit.",
    "missing-secret": "A Secret that a pod needs does not exist.",
    "missing-configmap": "A ConfigMap that a pod needs does not exist.",
    "container-refused": "The node cannot make a container as the pod describes it.",
    "pod-refused": "The namespace's rules refuse the run's pods.",
    "pod-evicted": "A node gave up a pod.",
    "no-node-fits": "No node has room for a pod, though its quota is there.",
    "no-such-node": "No node has the labels that a pod asks for.",
    "waits-for-pods": "The room of a pod is still held by pods that are ending.",
    "quota-never-fits": "The run asks for more than its queue can ever give.",
    "topology-mismatch": "The run's cluster profile is not that of its queue.",
    "queue-missing": "The queue of the run does not exist.",
    "queue-stopped": "The queue of the run is stopped or not ready.",
    "check-failing": "An admission check keeps the run out.",
    "deactivated": "Kueue gave the run up.",
    "not-managed": "Kueue has not seen the run.",
    "run-refused": "KubeRay finds the RayJob invalid.",
    "storage-unreachable": "The job cannot reach its storage.",
    "bad-input": "The job cannot use its spec, its data or its model.",
    "submitter-lost": "The pod that submits the job was lost.",
    "deadline": "The run took longer than it may.",
    "run-failed": "The job failed.",
}
"""Every cause and what it means."""

PULL_FAILURES = {
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
FIRST_TRY = "ErrImagePull"
"""Of a pull that is tried again: the kubelet may still get through."""
NO_LABEL = "didn't match Pod's node affinity/selector"
"""The scheduler's words."""
REFUSED_CONTAINER = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
MISSING = re.compile(r'(?P<kind>secret|configmap) "(?P<name>[^"]+)" not found')
KEY_MISSING = re.compile(
    r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) (?P<name>\S+)"
)
EXIT_CODE = re.compile(r"exit code (\d+)")
EXIT_INPUT, EXIT_STORAGE = 2, 3
"""Exit codes of `lima_jobs.run`."""
STOPPED = "STOPPED"
"""How Ray calls a job that was stopped: by someone, or by itself since its input is bad."""


def find_cause(
    run: Run,
    workload: Workload | None,
    pods: Sequence[Pod],
    events: Sequence[Event],
    queue: Queue | None,
    *,
    leaving: Sequence[Pod] = (),
    fresh: bool = False,
) -> Cause | None:
    """Return the cause that explains a run best: a fatal one if there is any.

    Args:
        run: The run.
        workload: Kueue's view of it.
        pods: Its pods.
        events: About all of these.
        queue: Its LocalQueue.
        leaving: Pods of the namespace that are ending.
        fresh: It was admitted so lately that who made way for it may still be ending.

    """
    if run.succeeded or (run.ended and not _failed_by_itself(run)):
        return None
    found = [*from_run(run)]
    if not run.ended:
        found += [
            *from_pods(pods, job_runs=run.job_runs),
            *from_unscheduled(pods, workload, leaving, fresh=fresh),
            *from_events(_timely(run, pods, events)),
            *from_queue(run, workload, queue),
        ]
    return next((c for c in found if c.fatal), next(iter(found), None))


def from_run(run: Run) -> Iterator[Cause]:
    """Yield what KubeRay says of a run that failed."""
    if run.deployment_status == "ValidationFailed":
        yield Cause("run-refused", run.message or "no reason is given", "lima-k8s lint RECIPE")
        return
    if not _failed_by_itself(run):
        return
    if run.reason.endswith("DeadlineExceeded"):
        yield Cause("deadline", run.message, "submit again: it goes on where it was")
        return
    code = EXIT_CODE.search(run.message)
    if run.job_status == STOPPED:
        yield _stopped_job(run)
    elif run.reason == "SubmissionFailed" and not code:
        yield Cause(
            "submitter-lost",
            run.message,
            "submit again: it goes on where it was",
            run.name,
            fatal=run.ended,
        )
    else:
        yield _failed_job(run, int(code[1]) if code else 1)


def from_pods(pods: Iterable[Pod], *, job_runs: bool = False) -> Iterator[Cause]:
    """Yield what keeps pods from running, those that were killed first."""
    alive = [pod for pod in pods if not pod.deleting]
    for pod in alive:
        for container in pod.containers:
            yield from _from_container(pod, container, job_runs=job_runs)
    for pod in alive:
        if pod.phase == "Failed" and pod.reason:
            yield Cause(
                "pod-evicted",
                f"{pod.reason}: {pod.message}",
                "nothing: it is made anew",
                pod.name,
                fatal=False,
            )


def from_unscheduled(
    pods: Iterable[Pod], workload: Workload | None, leaving: Sequence[Pod], *, fresh: bool
) -> Iterator[Cause]:
    """Yield why no node takes pods whose quota is there."""
    for pod in (pod for pod in pods if pod.unschedulable and not pod.deleting):
        if NO_LABEL in pod.unschedulable and pod.node_selector:
            flavors = sorted(set(workload.flavors.values())) if workload else []
            yield Cause(
                "no-such-node",
                f"no free node has the labels {_labels(pod.node_selector)}, which flavor "
                f"{' or '.join(flavors) or 'of its queue'} stands for; {pod.unschedulable}",
                "kubectl get nodes --show-labels; the labels are those of lima-queue's flavors and "
                "of the profile",
                pod.name,
                fatal=False,
            )
        elif leaving or fresh:
            names = sorted({other.run or other.name for other in leaving})
            yield Cause(
                "waits-for-pods",
                f"pods of {', '.join(names)} are still ending"
                if names
                else "it was admitted a moment ago: who made way may still be saving its state",
                "nothing: they go within their grace period",
                pod.name,
                fatal=False,
            )
        else:
            yield Cause(
                "no-node-fits",
                pod.unschedulable,
                "smaller requests in the profile, or nodes: kubectl describe nodes",
                pod.name,
                fatal=False,
            )


def _labels(selector: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))


def from_events(events: Iterable[Event]) -> Iterator[Cause]:
    """Yield what only events tell: volumes that cannot be mounted, pods that are refused."""
    for event in events:
        if not event.warning:
            continue
        missing = MISSING.search(event.message)
        if missing and event.reason in ("FailedMount", "Failed"):
            yield _missing(missing["kind"], missing["name"], event.name)
        elif event.reason.startswith(("FailedCreate", "FailedToCreate")) and (
            "forbidden" in event.message or "is invalid" in event.message
        ):
            yield Cause(
                "pod-refused",
                event.message,
                "ask the platform team: a ResourceQuota, LimitRange or the pod security level",
                f"{event.kind.lower()} {event.name}",
            )


def _failed_by_itself(run: Run) -> bool:
    if run.job_status == STOPPED:
        return run.ended  # until then the end of its log may be missing
    return run.deployment_status in ("Failed", "ValidationFailed") or run.job_status == "FAILED"


def _failed_job(run: Run, code: int) -> Cause:
    said = job_errors(run.message)
    log = f"lima-k8s logs {run.name}"
    if code == EXIT_STORAGE:
        return Cause(
            "storage-unreachable",
            said,
            "check the URI, the Secret and the endpoint, then submit again",
            run.storage,
        )
    if code == EXIT_INPUT:
        return Cause("bad-input", said, f"mend the recipe; {log}")
    return Cause("run-failed", said, log, fatal=run.ended)  # else it is tried again


def _stopped_job(run: Run) -> Cause:
    """Return why a job was stopped by itself, or by someone; `message` is the end of its log."""
    log = f"lima-k8s logs {run.name}"
    end = read_job_end(run.message)
    if end is None or end.stopped:
        return Cause("run-failed", "its job was stopped through Ray", f"submit again; {log}")
    return Cause("bad-input", end.message, f"mend the recipe; {log}")


def _timely(run: Run, pods: Iterable[Pod], events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events that may still hold: the API server keeps them for an hour."""
    by_name = {pod.name: pod for pod in pods}
    for event in events:
        pod = by_name.get(event.name)
        if pod is None:
            overcome = run.job_runs  # by KubeRay or a Job: each pod that was refused came later
        else:
            overcome = pod.runs or bool(pod.began and event.at and event.at < pod.began)
        if not overcome:
            yield event


def _from_container(pod: Pod, container: Container, *, job_runs: bool) -> Iterator[Cause]:
    where = f"pod {pod.name}, container {container.name}"
    if "OOMKilled" in (container.reason, container.last_reason):
        yield Cause(
            "out-of-memory",
            "killed at its memory limit",
            "more memory in the profile, a smaller compute.micro_batch_size, or compute.offload",
            where,
            fatal=not (job_runs and container.state == "running"),  # else it went on
        )
    if container.reason in PULL_FAILURES:
        yield Cause(
            "image-pull-failure",
            f"{container.image}: {container.message or container.reason}",
            "check the image's name and tag in the profile, and its pull secret",
            where,
            fatal=container.reason != FIRST_TRY,
        )
    elif container.reason in REFUSED_CONTAINER:
        yield _refused_container(container, where)
    elif container.reason == "CrashLoopBackOff" or _failed_init(container):
        code = container.last_exit_code if container.exit_code is None else container.exit_code
        last = (
            container.last_message or container.message
            if container.init
            else (container.last_message)
        )
        yield Cause(
            "init-crash-loop" if container.init else "crash-loop",
            f"exit code {code}, {container.restarts} restarts{f': {last}' if last else ''}",
            f"kubectl logs {pod.name} -c {container.name} --previous",
            where,
            fatal=container.reason == "CrashLoopBackOff" or container.restarts > 0,
        )


def _failed_init(container: Container) -> bool:
    return container.init and container.state == "terminated" and bool(container.exit_code)


def _refused_container(container: Container, where: str) -> Cause:
    missing = MISSING.search(container.message)
    if missing:
        return _missing(missing["kind"], missing["name"], where)
    key = KEY_MISSING.search(container.message)
    if key:
        kind, name = key["kind"].lower(), key["name"].rpartition("/")[2]
        return _missing(kind, name, where, f"it has no key {key['key']!r}")
    return Cause("container-refused", container.message, "mend the profile", where)


def _missing(kind: str, name: str, where: str, what: str = "") -> Cause:
    creates = f"kubectl create secret generic {name} --from-literal=AWS_ACCESS_KEY_ID=…"
    fix = creates if kind == "secret" else "cancel and submit again"
    title = "Secret" if kind == "secret" else "ConfigMap"
    return Cause(f"missing-{kind}", what or f"there is no {title} {name!r}", fix, where)
