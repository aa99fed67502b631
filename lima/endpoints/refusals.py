"""Answers that end a run at once, since every request would get them: what they say, what to do."""

from lima.endpoints.peer import Peer
from lima.errors import EndpointError


def ending(peer: Peer, status: int, code: str | int | None, said: str) -> EndpointError | None:
    """Return what ends the run after an HTTP error; None: another request may fare better.

    Args:
        peer: who has answered.
        status: HTTP status.
        code: the protocol's code of the error.
        said: the endpoint's words.

    """
    told = f"(HTTP {status}: {said})"
    variable = peer.key.variable or f"that {peer.key.setting} should name"
    if status in (401, 403):
        return EndpointError(
            f"{peer} refuses the key {told}; check the environment variable {variable}"
        )
    if status == 404:
        return EndpointError(
            f"{peer} does not know model {peer.model!r}, or there is none {told}; check "
            f"{peer.settings}"
        )
    if code == "insufficient_quota":
        return EndpointError(
            f"{peer} says that the account has no credit left {told}; top up the account of the "
            f"key in {variable}, then start again: {peer.kept}"
        )
    return None


def redirected(peer: Peer, status: int, target: str) -> EndpointError:
    """Return what ends the run where requests are sent on to another address."""
    return EndpointError(
        f"{peer} sends requests on to {target} (HTTP {status}), where no text of yours is sent; "
        f"if that is meant, put it into {peer.key.where}"
    )
