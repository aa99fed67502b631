"""What the API server, a kubeconfig or Helm refuse, in words that say what to do."""

import json
import re
from collections.abc import Callable
from typing import Any

from lima.errors import ClusterError, InputError, LimaError

RIGHTS = "ask for the role of lima-queue (docs/cluster.md)"
SHORT = 300
"""Characters that are enough of what Helm says of many objects alike."""
NOT_QUICK = "failed calling webhook"
_FORBIDDEN = re.compile(
    r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)
_USER = re.compile(r'User "([^"]+)"')


class UnreachableError(ClusterError):
    """The API server does not answer now; it may again in a moment."""


def forbidden(message: str) -> ClusterError:
    """Return the error for a missing right, with the right by its name."""
    right, user = _FORBIDDEN.search(message), _USER.search(message)
    if right is None:
        return ClusterError(f"the cluster refuses: {message}; {RIGHTS}")
    group = f".{right['group']}" if right["group"] else ""
    where = f" in namespace {right['namespace']!r}" if right["namespace"] else " in the cluster"
    who = f"{user[1]} may" if user else "you may"
    return ClusterError(f"{who} not {right['verb']} {right['resource']}{group}{where}; {RIGHTS}")


def _forbidden_to_helm(message: str) -> ClusterError:
    """Return the error for a right that Helm lacks; Secrets it wants for its own records alone."""
    right = _FORBIDDEN.search(message)
    if right is None or right["resource"] != "secrets":
        return forbidden(message)
    return ClusterError(
        f"you may not {right['verb']} secrets in namespace {right['namespace']!r}, where Helm "
        "would keep its records; have it keep them in ConfigMaps: export HELM_DRIVER=configmap"
    )


def unauthorized(context: str) -> ClusterError:
    """Return the error for credentials that the cluster does not know any more."""
    return ClusterError(
        f"the cluster of context {context!r} refuses your credentials (401): they have expired or "
        "were withdrawn; log in to it again, then check with: kubectl auth whoami"
    )


def unreachable(server: str, reason: object) -> UnreachableError:
    """Return the error for a server that does not answer."""
    return UnreachableError(
        f"{server}: the cluster does not answer ({_network_reason(reason)}); check the network and "
        "`kubectl config current-context`, or choose another with --context"
    )


def no_kubeconfig(tried: str) -> ClusterError:
    """Return the error for a machine that knows of no cluster."""
    return ClusterError(
        f"no cluster is configured: {tried} names none; set KUBECONFIG to its file, or add --local "
        "to `submit` to run on this machine"
    )


def unreadable_kubeconfig(files: str, error: Exception) -> ClusterError:
    """Return the error for files that cannot be read as kubeconfigs."""
    why = str(error).partition("\n")[0]
    return ClusterError(
        f"{files}: no kubeconfig ({why}); mend it, or set KUBECONFIG to another file"
    )


def no_current_context(tried: str, known: list[str]) -> InputError:
    """Return the error for a kubeconfig that leaves open which of its contexts is meant."""
    return InputError(
        f"{tried} names no current context; choose one with --context: {', '.join(sorted(known))}"
    )


def unknown_context(context: str, known: list[str]) -> InputError:
    """Return the error for a context that the kubeconfig does not have."""
    from lima.spec.hints import closest

    return InputError(f"no context {context!r}; {closest(context, known, 'contexts')}")


def refused(status: int, body: bytes, what: str, context: str) -> LimaError:
    """Return the error for an answer that is not a success.

    Args:
        status: HTTP status.
        body: A `Status` object of the API server, or whatever a proxy wrote.
        what: What was asked, as `list rayjobs`.
        context: Of the kubeconfig.

    """
    answer = _status(body)
    message = str(answer.get("message") or body.decode(errors="replace")[:300]).strip()
    if status == 401:
        return unauthorized(context)
    if status == 403 and "forbidden: User" in message:
        return forbidden(message)
    if NOT_QUICK in message:
        return not_quick_enough(message)
    if status in (400, 403, 409, 422):
        return InputError(f"the cluster refuses to {what}: {message}")
    kind = UnreachableError if status >= 500 else ClusterError
    return kind(f"cannot {what}: the cluster answers {status} ({message})")


def not_quick_enough(message: str) -> ClusterError:
    """Return the error for a cluster, or a webhook in it, that did not answer in time."""
    return UnreachableError(
        f"the cluster is not quick enough now: {message[:SHORT]}…; the same command tries again"
    )


def helm_failed(text: str, context: str) -> LimaError:
    """Return the error for what Helm wrote before it failed."""
    message = _helm_message(text)
    namespace = re.search(r'namespaces "([^"]+)" not found', text)
    known: dict[str, Callable[[], LimaError]] = {
        f"{NOT_QUICK}|etcdserver: |context deadline exceeded": lambda: not_quick_enough(message),
        "cluster unreachable|connection refused|no such host": lambda: ClusterError(
            f"the cluster does not answer: {message.partition('unreachable: ')[2] or message}; "
            "choose another with --context"
        ),
        "Unauthorized|must be logged in": lambda: unauthorized(context or "the current one"),
        "is forbidden: User": lambda: _forbidden_to_helm(text),
        'no matches for kind "RayJob"': lambda: missing_operator("KubeRay", "ray.io/v1", []),
        'namespaces ".*" not found': lambda: InputError(
            f"no namespace {namespace[1] if namespace else ''!r}; name yours with -n, or have it "
            "made with lima-queue"
        ),
        "admission webhook|is invalid|violates PodSecurity": lambda: InputError(
            f"the cluster refuses these runs: {message}"
        ),
        # What a template refuses itself: its words say what to do.
        r"execution error at \(": lambda: InputError(_of_a_template(message)),
        "don't meet the specifications of the schema": lambda: InputError(
            f"the chart refuses these values: {message}"
        ),
    }
    make = next((make for pattern, make in known.items() if re.search(pattern, text)), None)
    return make() if make else LimaError(f"helm: {message}")


def _of_a_template(message: str) -> str:
    _, _, place_and_words = message.partition("execution error at (")
    words = place_and_words.partition("): ")[2] or message
    return words.replace(" Use --debug flag to render out invalid YAML", "")


def missing_operator(name: str, wanted: str, served: list[str]) -> ClusterError:
    """Return the error for an operator that is not there, or serves another version."""
    if served:
        return ClusterError(
            f"{name} in this cluster serves {', '.join(served)}, but {wanted} is needed; have it "
            "upgraded (tested: KubeRay 1.6, Kueue 0.19)"
        )
    return ClusterError(
        f"{name} is not installed in this cluster: it serves no {wanted}; docs/cluster.md says "
        "what a platform team installs once"
    )


def _status(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _network_reason(reason: object) -> str:
    """Return the innermost words of a chain of network errors."""
    text = str(getattr(reason, "reason", reason))
    known = {
        "Connection refused": "connection refused",
        "timed out": "no answer in time",
        "Name or service not known": "its name is unknown here",
        "Temporary failure in name resolution": "its name is unknown here",
        "Failed to resolve": "its name is unknown here",
        "No route to host": "no route to it",
        "Network is unreachable": "no network",
        "CERTIFICATE_VERIFY_FAILED": "its certificate is not the one of the kubeconfig",
        "WRONG_VERSION_NUMBER": "it does not speak TLS",
        "RemoteDisconnected": "it closed the connection",
    }
    return next((words for key, words in known.items() if key in text), text)


def _helm_message(text: str) -> str:
    """Return Helm's last error without its warnings and prefixes."""
    lines = [line for line in text.splitlines() if line and not line.startswith("WARNING")]
    start = next((i for i, line in enumerate(lines) if line.startswith("Error: ")), 0)
    message = " ".join(line.strip() for line in lines[start:])
    return re.sub(r"^Error: (INSTALLATION FAILED: |UNINSTALLATION FAILED: )?", "", message)
