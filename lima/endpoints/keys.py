"""Keys of endpoints: from the environment, and never stored.

A study file says which variable holds a key and where it is sent. It may come from somebody else,
and must not make a secret of another kind leave: names of keys have a form.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from lima.common.secret_names import allowed_keys, opens_platform, opens_service
from lima.common.variables import KEY_NAMES
from lima.endpoints.address import endpoint_address, proxy_of
from lima.errors import InputError, SpecError
from lima.spec import ENDPOINT, CellSpec, GenerateSpec, JudgeSpec, Stage, stage_cell

if TYPE_CHECKING:
    from lima.store.storage import Storage

PRIVATE = (".svc", ".local", ".internal", ".localhost")
NO_KEY = ""
"""For an endpoint that takes no key: none is sent."""
_NAME = re.compile(r"\w+_(API_KEY|TOKEN)", re.ASCII)
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class KeyOf:
    """An endpoint, and the environment variable that `setting` of a spec names for its key."""

    stage: Stage
    url: str
    where: str
    """What of a spec holds the URL."""
    variable: str
    """Empty: the endpoint takes no key."""
    setting: str

    def find(self) -> str:
        """Return the key to send.

        Raises:
            SpecError: the endpoint's URL is not an address, or the variable's name is none that a
                study may give to a key.
            InputError: the variable holds no key, and the endpoint is not on this machine or a
                private network, where one may be served without keys; or what is sent there could
                be read on the way.

        """
        host = host_of(self.url, self.where)
        if self.bad_name:
            raise SpecError(f"{self.setting}: {self.bad_name}; {self.better_name}")
        addresses = _addresses(host) if self._must_look_up and not _is_inside(host) else []
        self._refuse_plain(addresses)
        key = os.environ.get(self.variable, "").strip() if self.variable else NO_KEY
        if not (key.isascii() and key.isprintable()):
            raise InputError(f"the key in {self.variable} has characters that no key has")
        if key or not self.variable or not _any_public(addresses):
            return key
        raise InputError(
            f"the endpoint at {self.url} needs a key: put it into the environment variable "
            f"{self.variable}, or name another one in {self.setting} ('' if it takes none)"
        )

    @property
    def bad_name(self) -> str:
        """Why the variable's name is none that a study may give to a key; empty: it is one."""
        if not self.variable or is_allowed(self.variable):
            return ""
        return f"what {self.variable!r} holds is not sent to an endpoint"

    @property
    def better_name(self) -> str:
        """What to do about it."""
        like = "name a variable like OPENAI_API_KEY or JUDGE_TOKEN"
        if opens_platform(self.variable):
            return like
        return f"{like}, or allow this one, if it is a key, with --allow-key {self.variable}"

    @property
    def _must_look_up(self) -> bool:
        """Whether it matters where the endpoint is; to find out may take seconds."""
        keyless = bool(self.variable) and not os.environ.get(self.variable, "").strip()
        return keyless or self.url.startswith("http://")

    def _refuse_plain(self, addresses: Sequence[_Address]) -> None:
        """Refuse to send a key and prompts over networks of others for all to read."""
        if not self.url.startswith("http://"):
            return
        if _any_public(addresses) if addresses else self._may_be_public:
            raise InputError(
                f"{self.where}: {self.url} is neither on this machine nor on a private network, "
                "and plain http shows key and prompts to all networks on the way; use https"
            )

    @property
    def _may_be_public(self) -> bool:
        """Whether an endpoint whose addresses are not known may be one of the Internet.

        A proxy looks names up that nobody else here can.
        """
        host = host_of(self.url, self.where)
        dotted = "." in host and not host.endswith(PRIVATE)
        return self.looks_public or (dotted and proxy_of(self.url) is not None)

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


def is_allowed(name: str) -> bool:
    """Say whether what a variable of this name holds may be sent to an endpoint as its key."""
    if opens_platform(name):
        return False
    is_key = bool(_NAME.fullmatch(name)) and not opens_service(name)
    return is_key or name in allowed_keys()


def allow_keys(names: Iterable[str]) -> None:
    """Let a study that this process or its children run give these names to keys."""
    known = allowed_keys()
    if more := [name for name in names if name and name not in known]:
        os.environ[KEY_NAMES] = ",".join([*known, *more])


def api_key(spec: JudgeSpec) -> str:
    """Return the key of a judge; raises as `KeyOf.find` does."""
    return judge_key(spec).find()


def keys_of(cell: CellSpec) -> Iterator[KeyOf]:
    """Yield what keys the stages of a cell ask for: of a baseline's endpoint, of the judge."""
    generate = cell.generate
    if generate and generate.model.path.startswith(ENDPOINT):
        yield baseline_key(generate)
    if cell.judge:
        yield judge_key(cell.judge)


def require_keys(cells: Iterable[CellSpec], storage: "Storage") -> None:
    """Find out before hours of other work that an endpoint's key is not there.

    A stage that has results already may be finished, and asks by itself if it is not.

    Raises:
        SpecError: the URL of an endpoint is not an address.
        InputError: a key is missing.

    """
    from lima.store.shards import RunTable
    from lima.store.tables import (  # they take pyarrow, which lint does without
        GENERATIONS,
        JUDGMENTS,
    )

    tables = {"generate": GENERATIONS, "judge": JUDGMENTS}
    for cell in cells:
        for key in keys_of(cell):
            if not RunTable(storage, tables[key.stage], stage_cell(cell, key.stage)).shards():
                key.find()


def baseline_key(spec: GenerateSpec) -> KeyOf:
    """Return where a baseline's endpoint is, and which variable holds its key.

    Raises:
        SpecError: the model is none of an endpoint.

    """
    url, _ = endpoint_address(spec.model.path)
    setting = "generate.endpoint.api_key_env"
    return KeyOf("generate", url, "generate.model.path", spec.endpoint.api_key_env, setting)


def judge_key(spec: JudgeSpec) -> KeyOf:
    """Return where a judge is, and which variable holds its key."""
    return KeyOf("judge", spec.base_url, "judge.base_url", spec.api_key_env, "judge.api_key_env")


def host_of(url: str, where: str) -> str:
    """Return the host of a URL.

    Raises:
        SpecError: the URL, which stands at `where` in a spec, is not an address.

    """
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port != 0 else None
    except ValueError:
        host = None
    if host and not host.isascii():  # some of its characters are dots to whoever looks it up
        raise SpecError(f"{where}: {url!r}: write the host in ASCII, as xn--…")
    if not host:
        raise SpecError(f"{where}: {url!r} is not an address like http://HOST:PORT/v1")
    return host


def _is_inside(host: str) -> bool:
    """Say whether a name can only be one of this network; some clusters give public addresses."""
    one_word = host[:1].isalpha() and not {".", ":"} & set(host)
    return one_word or host.endswith(PRIVATE)


def _any_public(addresses: Iterable[_Address]) -> bool:
    """Say whether some addresses are neither on this machine nor on a private network.

    Without any, nobody knows: to ask will tell, and is tried again.
    """
    return any(address.is_global for address in addresses)


def _addresses(host: str) -> list[_Address]:
    """Return the addresses of a host, as far as they can be found out."""
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(info[4][0]) for info in found]
