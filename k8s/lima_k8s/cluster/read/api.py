"""The one place that talks to the API server, as an ordinary user of one namespace.

The kubernetes library reads the kubeconfig, holds the credentials and speaks HTTP; answers are
taken as JSON, since its models cost a second of start-up and know neither RayJobs nor Workloads.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lima.errors import ClusterError, InputError
from lima_k8s.cluster.read import failures, stream
from lima_k8s.cluster.read.kubeconfig import contexts, not_empty

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Raw = dict[str, Any]
Query = list[tuple[str, str]]
NAMESPACE = "lima"
"""Where runs go if neither -n nor the context says; a context's `default` says nothing."""
TIMEOUT_S = (5.0, 60.0)
"""Seconds to connect, and to wait for an answer."""
FOLLOW_TIMEOUT_S = (5.0, 3600.0)
OK, NOT_FOUND, CONFLICT = 200, 404, 409
KUBECONFIG = "~/.kube/config"


@dataclass(frozen=True)
class Kind:
    """A kind of object: where the API server has it, and who brings it there."""

    plural: str
    group: str = ""
    version: str = "v1"
    operator: str = ""
    namespaced: bool = True

    @property
    def api(self) -> str:
        """Its group and version, as manifests name it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str) -> str:
        """Return the path of its collection."""
        root = f"/apis/{self.api}" if self.group else f"/api/{self.api}"
        return (
            f"{root}/namespaces/{namespace}/{self.plural}"
            if self.namespaced
            else (f"{root}/{self.plural}")
        )


RAYJOBS = Kind("rayjobs", "ray.io", "v1", "KubeRay")
WORKLOADS = Kind("workloads", "kueue.x-k8s.io", "v1beta2", "Kueue")
QUEUES = Kind("localqueues", "kueue.x-k8s.io", "v1beta2", "Kueue")
CLUSTER_QUEUES = Kind("clusterqueues", "kueue.x-k8s.io", "v1beta2", "Kueue", namespaced=False)
PRIORITY_CLASSES = Kind(
    "workloadpriorityclasses", "kueue.x-k8s.io", "v1beta2", "Kueue", namespaced=False
)
PLACES = Kind("localqueues", "visibility.kueue.x-k8s.io", "v1beta2", "Kueue")
RESOURCE_FLAVORS = Kind("resourceflavors", "kueue.x-k8s.io", "v1beta2", "Kueue", namespaced=False)
PODS, EVENTS, CONFIGMAPS, SECRETS, CLAIMS, ACCOUNTS = (
    Kind(plural)
    for plural in (
        "pods",
        "events",
        "configmaps",
        "secrets",
        "persistentvolumeclaims",
        "serviceaccounts",
    )
)


class Cluster:
    """A namespace of a cluster, seen with the rights of the user."""

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        """Read the kubeconfig; nothing is sent yet.

        Raises:
            InputError: there is no such context, or none is current and none is named.
            ClusterError: there is no kubeconfig, and this is no pod of a cluster.

        """
        self._client, self.context, default = _connect(context)
        self.namespace = namespace or (default if default != "default" else None) or NAMESPACE
        self.calls = 0
        """Requests sent so far."""

    @property
    def server(self) -> str:
        """Address of the API server."""
        return str(self._client.configuration.host)

    def list_all(self, kind: Kind, selector: str = "") -> list[Raw]:
        """Return all objects of a kind, in one request.

        Raises:
            ClusterError: the server cannot be reached, refuses, or does not know the kind.

        """
        query = [("labelSelector", selector)] if selector else []
        answer = self._ask("GET", kind, "list", query=query)
        return list(answer.get("items") or []) if answer else []

    def get(self, kind: Kind, name: str) -> Raw | None:
        """Return an object; None if there is none of this name."""
        return self._ask("GET", kind, "get", name)

    def may_get(self, kind: Kind, name: str) -> Raw | None:
        """Return an object, or None where that is not allowed or not there."""
        try:
            return self.get(kind, name)
        except (ClusterError, InputError):
            return None

    def may_list(self, kind: Kind) -> list[Raw]:
        """Return all objects of a kind; none where that is not allowed."""
        try:
            return self.list_all(kind)
        except ClusterError:
            return []

    def create(self, kind: Kind, manifest: Raw) -> Raw | None:
        """Create an object."""
        return self._ask("POST", kind, "create", body=manifest)

    def would_take(self, kind: Kind, manifest: Raw) -> None:
        """Ask whether an object would be taken, by webhooks and policies too; nothing is made.

        Raises:
            InputError: it is refused.
            ClusterError: the server cannot be reached, a right is missing, or a webhook is away.

        """
        path, query = kind.path(self.namespace), [("dryRun", "All")]
        status, answer = self._send("POST", path, query, manifest)
        if status == NOT_FOUND:
            self._explain_not_found(kind, "", answer)
        there = status == CONFLICT and b'"reason":"AlreadyExists"' in answer.replace(b" ", b"")
        if not OK <= status < 300 and not there:
            what = f"create {kind.plural} {manifest['metadata']['name']}"
            raise failures.refused(status, answer, what, self.context)

    def delete(self, kind: Kind, name: str) -> None:
        """Delete an object and what it owns; one that is gone already is fine."""
        options = {"propagationPolicy": "Background"}
        self._ask("DELETE", kind, "delete", name, body=options)

    def places(self, queue: str) -> list[Raw] | None:
        """Return who waits in a queue, first first; None without Kueue's visibility API."""
        path = f"{PLACES.path(self.namespace)}/{queue}/pendingworkloads"
        status, body = self._send("GET", path, [("limit", "1000")], None)
        return list(json.loads(body).get("items") or []) if status == OK else None

    def log(
        self,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        last: int | None = None,
        since: str | None = None,
    ) -> Iterator[str]:
        """Yield the `last` lines of a container's log, or all; as they come with `follow`.

        With `since` each line has the time that it was written before it; if that is not empty,
        only lines of that second and later come.

        Raises:
            ClusterError: the server cannot be reached, refuses, or breaks off.

        """
        path = f"{PODS.path(self.namespace)}/{pod}/log"
        query = [("container", container)]
        query += [("follow", "true")] if follow else []
        query += [("tailLines", str(last))] if last else []
        query += [("timestamps", "true")] if since is not None else []
        query += [("sinceTime", since)] if since else []
        response = self._open("GET", path, query, None, FOLLOW_TIMEOUT_S if follow else TIMEOUT_S)
        if response.status != OK:
            raise failures.refused(
                response.status, response.read(), f"read the log of {pod}", self.context
            )
        yield from stream.lines(response.response, f"the log of {pod}")

    def _ask(
        self,
        method: str,
        kind: Kind,
        verb: str,
        name: str = "",
        *,
        query: Query | None = None,
        body: Raw | None = None,
    ) -> Raw | None:
        path = kind.path(self.namespace) + (f"/{name}" if name else "")
        status, answer = self._send(method, path, query or [], body)
        if status == NOT_FOUND:
            self._explain_not_found(kind, name, answer)
            return None
        if not OK <= status < 300:
            what = f"{verb} {kind.plural}{f' {name}' if name else ''}"
            raise failures.refused(status, answer, what, self.context)
        document: Raw = json.loads(answer)
        return document

    def _explain_not_found(self, kind: Kind, name: str, answer: bytes) -> None:
        """Raise if it is the kind that is not known here, not the object."""
        if b'"details":{"name"' in answer.replace(b" ", b"") and name:
            return
        status, body = self._send("GET", f"/apis/{kind.group}", [], None)
        served = json.loads(body).get("versions", []) if status == OK else []
        versions = [v["groupVersion"] for v in served]
        if kind.api in versions or not kind.group:
            return
        raise failures.missing_operator(kind.operator, f"{kind.plural}.{kind.api}", versions)

    def _send(self, method: str, path: str, query: Query, body: Raw | None) -> tuple[int, bytes]:
        response = self._open(method, path, query, body, TIMEOUT_S)
        return int(response.status), bytes(response.read())

    def _open(
        self,
        method: str,
        path: str,
        query: Query,
        body: Raw | None,
        timeout: tuple[float, float],
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        self.calls += 1
        try:
            request = self._client.param_serialize(
                method,
                path,
                query_params=list(query),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            return self._client.call_api(*request, _request_timeout=timeout)
        except ApiException as error:
            raise failures.unreachable(self.server, error.reason) from error
        except (HTTPError, OSError) as error:
            raise failures.unreachable(self.server, error) from error


def _connect(context: str | None) -> "tuple[ApiClient, str, str | None]":
    """Return a client, the name of its context and the context's namespace."""
    client, config = _library()
    _hush()
    settings = client.Configuration()
    settings.retries = 1
    files = not_empty(os.environ.get("KUBECONFIG") or KUBECONFIG)
    known, current = contexts(config, files)
    names, wanted = [c["name"] for c in known], context or current
    if not context and not (names and current):
        return _connect_inside(client, config, settings, files, names)
    chosen = next((c for c in known if c["name"] == wanted), None)
    if chosen is None:
        raise failures.unknown_context(wanted, names) if names else failures.no_kubeconfig(files)
    try:
        config.load_kube_config(files, chosen["name"], client_configuration=settings)
    except (config.ConfigException, OSError) as error:
        raise ClusterError(
            f"context {chosen['name']!r} of {files} cannot be used: {error}; mend it, or choose "
            "another with --context"
        ) from error
    return client.ApiClient(settings), chosen["name"], chosen["context"].get("namespace")


def _connect_inside(
    client: Any, config: Any, settings: Any, files: str, names: list[str]
) -> "tuple[ApiClient, str, str | None]":
    """Connect as the service account of the pod that this is."""
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        outside = failures.no_current_context(files, names) if names else None
        raise outside or failures.no_kubeconfig(files) from None
    namespace = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    inside = namespace.read_text("utf-8").strip() if namespace.exists() else None
    return client.ApiClient(settings), "in-cluster", inside


def _hush() -> None:
    """Keep urllib3's own words off standard error: what matters is in our errors."""
    import logging

    import urllib3

    urllib3.disable_warnings()  # as of a kubeconfig with insecure-skip-tls-verify
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def _library() -> tuple[Any, Any]:
    """Import the library without google.auth: half a second for logins that kubectl dropped."""
    hidden = "google.auth"
    before = sys.modules.get(hidden)
    if before is None:
        sys.modules[hidden] = None  # type: ignore[assignment]  # importing it fails, as if absent
    try:
        from kubernetes import client, config
    finally:
        if before is None:
            del sys.modules[hidden]
    return client, config
