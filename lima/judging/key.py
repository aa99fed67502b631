"""Keys of endpoints: from the environment, and never stored."""

import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lima.errors import InputError, SpecError
from lima.generation.address import endpoint_address
from lima.spec import ENDPOINT, CellSpec, JudgeSpec, Stage, stage_cell

if TYPE_CHECKING:
    from lima.storage import Storage

PRIVATE = (".svc", ".local", ".internal", ".localhost")
NO_KEY = "none"
"""What a private endpoint gets instead of a key: the client library insists on one."""


@dataclass(frozen=True)
class KeyOf:
    """An endpoint, and the environment variable that `setting` of a spec names for its key."""

    stage: Stage
    url: str
    where: str
    """What of a spec holds the URL."""
    variable: str
    setting: str

    def find(self) -> str:
        """Return the key to send.

        Raises:
            SpecError: the endpoint's URL is not an address.
            InputError: the variable holds no key, and the endpoint is not on this machine or a
                private network, where one may be served without keys.

        """
        host = host_of(self.url, self.where)
        key = os.environ.get(self.variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise InputError(f"the key in {self.variable} has characters that no key has")
        if key:
            return key
        if _is_private(host):
            return NO_KEY
        raise InputError(
            f"the endpoint at {self.url} needs a key: put it into the environment variable "
            f"{self.variable or '(none is named)'}, or name another one in {self.setting}"
        )

    @property
    def looks_public(self) -> bool:
        """Whether the endpoint is one of the Internet, by its name alone.

        `http://SERVICE.NAMESPACE` is one of a cluster.
        """
        host = host_of(self.url, self.where)
        try:
            return ipaddress.ip_address(host).is_global
        except ValueError:
            dots = 2 if self.url.startswith("http://") else 1
            return host.count(".") >= dots and not host.endswith(PRIVATE)


def api_key(spec: JudgeSpec) -> str:
    """Return the key of a judge; raises as `KeyOf.find` does."""
    return _judge_key(spec).find()


def keys_of(cell: CellSpec) -> Iterator[KeyOf]:
    """Yield what keys the stages of a cell ask for: of a baseline's endpoint, of the judge."""
    generate = cell.generate
    if generate and generate.model.path.startswith(ENDPOINT):
        url, _ = endpoint_address(generate.model.path)
        variable = generate.endpoint.api_key_env
        yield KeyOf(
            "generate", url, "generate.model.path", variable, "generate.endpoint.api_key_env"
        )
    if cell.judge:
        yield _judge_key(cell.judge)


def require_keys(cells: Iterable[CellSpec], storage: "Storage") -> None:
    """Find out before hours of other work that an endpoint's key is not there.

    A stage that has results already may be finished, and asks by itself if it is not.

    Raises:
        SpecError: the URL of an endpoint is not an address.
        InputError: a key is missing.

    """
    from lima.results import GENERATIONS, JUDGMENTS  # they take pyarrow, which lint does without
    from lima.shards import RunTable

    tables = {"generate": GENERATIONS, "judge": JUDGMENTS}
    for cell in cells:
        for key in keys_of(cell):
            if not RunTable(storage, tables[key.stage], stage_cell(cell, key.stage)).shards():
                key.find()


def _judge_key(spec: JudgeSpec) -> KeyOf:
    return KeyOf("judge", spec.base_url, "judge.base_url", spec.api_key_env, "judge.api_key_env")


def host_of(url: str, where: str) -> str:
    """Return the host of a URL.

    Raises:
        SpecError: the URL, which stands at `where` in a spec, is not an address.

    """
    try:
        parts = urlsplit(url)
        if parts.hostname and parts.port != 0:
            return parts.hostname
    except ValueError:
        pass
    raise SpecError(f"{where}: {url!r} is not an address like http://HOST:PORT/v1")


def _is_private(host: str) -> bool:
    """Say whether a host's addresses are all on this machine or a private network."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return True  # nobody knows: to ask it will tell, and is tried again
    return all(not ipaddress.ip_address(info[4][0]).is_global for info in found)
