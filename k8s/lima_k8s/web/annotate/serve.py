"""Serving a round: on this machine by default, to others only by name and access token."""

import ipaddress
import socket
from dataclasses import dataclass

from lima.errors import InputError
from lima_k8s.web.annotate.database import Store
from lima_k8s.web.annotate.invitations import Annotator
from lima_k8s.web.serving import bound_socket, run_app


@dataclass(frozen=True)
class Place:
    """A bound socket, and the address under which browsers reach it."""

    socket: socket.socket
    origin: str
    guarded: bool

    def link(self, annotator: Annotator) -> str:
        """Return an annotator's invitation."""
        return f"{self.origin}/a/{annotator.secret}/"


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(store: Store, host: str, port: int, url: str | None) -> Place:
    """Bind, by default to the port of the last time, so that links stay what they were.

    Raises:
        InputError: the address cannot be bound, or nobody could know what it is called.

    """
    if not is_loopback(host) and not url:
        raise InputError(
            f"--host {host}: say under which address annotators reach this machine, as "
            "--url https://labels.example.org (their browsers must send exactly that)"
        )
    wanted = port or int(store.settings().get("port", 0))
    bound = _bound(host, wanted, fixed=bool(port))
    bound.listen()  # whoever follows a link at once is kept waiting, not turned away
    actual = bound.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    origin = url.rstrip("/") if url else f"http://{shown}:{actual}"
    store.set(port=actual, origin=origin)
    # A page that a proxy brings to other machines is guarded, wherever it is bound.
    return Place(bound, origin, guarded=not is_loopback(host) or bool(url))


def serve(store: Store, place: Place) -> None:
    """Serve until Ctrl-C or SIGTERM, which are raised again; see `until_stopped`."""
    from lima_k8s.web.annotate.app import make_app

    run_app(make_app(store, place.origin, guarded=place.guarded), place.socket)


def _bound(host: str, port: int, *, fixed: bool) -> socket.socket:
    try:
        return bound_socket(host, port)
    except OSError as error:
        if port and not fixed:  # somebody else has the port of the last time
            return _bound(host, 0, fixed=True)
        raise InputError(
            f"{host}:{port} cannot be bound ({error.strerror}); choose another --port"
        ) from error
