"""HTTP to an OpenAI-compatible endpoint: one POST per request, and what an error body says."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
import msgspec


@dataclass(frozen=True)
class Answer:
    """What came back: any HTTP status, the headers and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str | None:
        """The endpoint's name for the request."""
        return self.headers.get("x-request-id")

    @property
    def failed(self) -> bool:
        """Whether the status is that of an error."""
        return self.status >= 400


class ErrorBody(msgspec.Struct):
    """What the protocol says of an error."""

    message: str = ""
    code: str | int | None = None
    param: str | None = None


class _Failure(msgspec.Struct):
    error: ErrorBody


class Endpoint:
    """Asks for chat completions, between `open` and `close`.

    The openai library takes twice the time of a request, for types that are not needed here and
    retries that would hide attempts: 64 in flight on one core would wait for it.
    """

    def __init__(self, base_url: str, key: str, concurrency: int) -> None:
        """Prepare to ask over at most `concurrency` connections; nothing is opened yet."""
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._concurrency = concurrency
        self._proxy = _proxy(self._url)
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "User-Agent": "lima-k8s",
        }

    async def open(self) -> None:
        """Make ready to connect; an event loop must run."""
        connector = aiohttp.TCPConnector(
            limit=self._concurrency,
            # The same authorities as for everything else here that speaks TLS.
            ssl=httpx2.create_ssl_context(),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Its timeouts restart with every byte; that of a whole request is the caller's.
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def ask(self, request: Mapping[str, object]) -> Answer:
        """Send the body of a request; return the answer, of whatever status.

        Raises:
            aiohttp.ClientError, OSError: there was no whole answer.

        """
        async with self._session.post(
            self._url, data=msgspec.json.encode(request), proxy=self._proxy
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())


def read_error(answer: Answer) -> ErrorBody:
    """Return what the body of a failed answer says; one of another form is its own message."""
    try:
        said = msgspec.json.decode(answer.body, type=_Failure).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = ErrorBody(" ".join(answer.body.decode(errors="replace").split()))
    if said.param and said.param not in said.message:
        said.message += f" ({said.param})"
    said.message = said.message or "no word of why"
    return said


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an address."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
