"""The key of a judge: from the environment, and never stored."""

import ipaddress
import os
import socket
from urllib.parse import urlsplit

from lima.errors import InputError, SpecError
from lima.spec import JudgeSpec

NO_KEY = "none"
"""What a private endpoint gets instead of a key: the client library insists on one."""


def api_key(spec: JudgeSpec) -> str:
    """Return the key to send.

    Raises:
        SpecError: `base_url` is not an address.
        InputError: the variable holds no key, and the endpoint is not on this machine or a
            private network, where one may be served without keys.

    """
    host = _host(spec.base_url)
    key = os.environ.get(spec.api_key_env, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"the key in {spec.api_key_env} has characters that no key has")
    if key:
        return key
    if _is_private(host):
        return NO_KEY
    raise InputError(
        f"the judge at {spec.base_url} needs a key: put it into the environment variable "
        f"{spec.api_key_env or '(none is named)'}, or name another one in judge.api_key_env"
    )


def _host(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        if parts.hostname and parts.port != 0:
            return parts.hostname
    except ValueError:
        pass
    raise SpecError(f"judge.base_url: {base_url!r} is not an address like http://HOST:PORT/v1")


def _is_private(host: str) -> bool:
    """Say whether a host's addresses are all on this machine or a private network."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(not ipaddress.ip_address(info[4][0]).is_global for info in found)
