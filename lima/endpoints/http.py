"""HTTP to an OpenAI-compatible endpoint: one POST per request, and what an error body says."""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import httpx2
import msgspec

from lima.endpoints.address import proxy_of
from lima.endpoints.attempt import error_words

PATH = "/chat/completions"
LARGEST = 16 << 20
"""Bytes of an answer. The longest that models give, of 128 thousand tokens, have one or two."""
MASK = "***"
FILTERED = ("content_filter", "content_policy_violation")
"""Words for what is wrong with the text of a request, where its content is meant."""


class ErrorBody(msgspec.Struct):
    """What the protocol says of an error."""

    message: str = ""
    code: str | int | None = None
    param: str | None = None
    metadata: Any = None

    @property
    def filtered(self) -> bool:
        """Whether it is the text that is refused, for what a filter or moderator sees in it.

        The protocol has a code for that; OpenRouter says HTTP 403, and what was flagged.
        """
        told = self.metadata if isinstance(self.metadata, dict) else {}
        return self.code in FILTERED or "flagged_input" in told


@dataclass(frozen=True)
class HttpAnswer:
    """What came back: any HTTP status, the headers and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    own_error: ErrorBody | None = None
    """What its body tells of an error, whatever its status."""

    @property
    def request_id(self) -> str | None:
        """The endpoint's name for the request."""
        return self.headers.get("x-request-id")

    @property
    def failed(self) -> bool:
        """Whether it is an error, by its status or by its body."""
        return self.own_error is not None or self.status >= 400

    @property
    def of_every_request(self) -> bool:
        """Whether its error, by its status, is what any other request would meet too.

        A number inside an answer of HTTP 200 is not: it is of somebody behind a gateway, who may
        mean this text alone (403: moderation) or be another one next time.
        """
        return self.own_error is None or self.own_error.code in OF_EVERY_REQUEST

    @property
    def redirect(self) -> str | None:
        """Where the endpoint says that the request should go instead."""
        return self.headers.get("location", "elsewhere") if 300 <= self.status < 400 else None


class _Failure(msgspec.Struct):
    error: ErrorBody


class _Told(msgspec.Struct):
    """What may be an error in an answer that has the status of a good one."""

    error: Any = None
    object: Any = None
    code: Any = None
    message: Any = None


STATUS_OF = {
    **dict.fromkeys(("rate_limit_exceeded", "rate_limit_error", "insufficient_quota"), 429),
    **dict.fromkeys(("invalid_api_key", "authentication_error"), 401),
    "permission_error": 403,
    **dict.fromkeys(("model_not_found", "not_found_error"), 404),
    **dict.fromkeys(("invalid_request_error", "context_length_exceeded"), 400),
    **dict.fromkeys(("server_error", "api_error"), 500),
    "overloaded_error": 503,
}
"""HTTP status of the errors that the protocol, or a common dialect of it, has a word for."""


OF_EVERY_REQUEST = (
    *("invalid_api_key", "authentication_error", "permission_error", "insufficient_quota"),
    *("model_not_found", "not_found_error"),
)
"""Words for what is wrong with the key, the account or the model, whatever is asked."""


class TooLongError(OSError):
    """An answer has more bytes than any model's words."""


class Endpoint:
    """Asks for chat completions, between `open` and `close`.

    Redirects are not followed: they would take texts to a host that nobody named.

    The openai library takes twice the time of a request, for types that are not needed here and
    retries that would hide attempts: 64 in flight on one core would wait for it.
    """

    def __init__(self, base_url: str, key: str, concurrency: int) -> None:
        """Prepare to ask over at most `concurrency` connections; nothing is opened yet."""
        self._url = completions_url(base_url)
        self._concurrency = concurrency
        self._proxy = proxy_of(self._url)
        self._headers = {
            **_credentials(self._url, key),
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
            cookie_jar=aiohttp.DummyCookieJar(),
            # Its timeouts restart with every byte; that of a whole request is the caller's.
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def ask(self, request: Mapping[str, object]) -> HttpAnswer:
        """Send the body of a request; return the answer, of whatever status.

        Raises:
            aiohttp.ClientError, OSError: there was no whole answer.

        """
        async with self._session.post(
            self._url,
            data=msgspec.json.encode(request),
            # Not the session's, which a proxy is told too: the key would be its credentials.
            headers=self._headers,
            proxy=self._proxy,
            allow_redirects=False,
        ) as answer:
            return HttpAnswer(answer.status, answer.headers, await _read(answer))


def completions_url(base_url: str) -> str:
    """Return where completions are asked for, whatever query follows the path of `base_url`."""
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + PATH, fragment=""))


def _credentials(url: str, key: str) -> dict[str, str]:
    if not key:
        return {}
    bearer = {"Authorization": f"Bearer {key}"}
    # Azure's deployments, whose addresses end in their version, take a key under another name.
    return {**bearer, "api-key": key} if "api-version=" in urlsplit(url).query else bearer


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body, as it is after any decompression."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > LARGEST:
            answer.close()
            raise TooLongError(f"over {LARGEST >> 20} MiB")
    return bytes(body).removeprefix(codecs.BOM_UTF8)


def read_error(answer: HttpAnswer) -> ErrorBody:
    """Return what the body of a failed answer says; one of another form is its own message."""
    if answer.own_error:
        return answer.own_error
    try:
        said = msgspec.json.decode(answer.body, type=_Failure).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = ErrorBody(" ".join(answer.body.decode(errors="replace").split()))
    if said.param and said.param not in said.message:
        said.message += f" ({said.param})"
    said.message = said.message or "no word of why"
    return said


def with_own_error(answer: HttpAnswer) -> HttpAnswer:
    """Return an answer that is no completion as what its body says.

    Gateways put the errors of what is behind them into answers of HTTP 200. Such an error counts
    under the status that its code stands for; one without such a code keeps that of the answer. A
    word for what every request would meet comes before any number.
    """
    try:
        told = msgspec.json.decode(answer.body, type=_Told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return answer
    said = told.error
    if told.object == "error":  # one that is not wrapped
        said = {"message": told.message, "code": told.code}
    if not said:
        return answer
    fields = said if isinstance(said, dict) else {}
    message = f"{error_words(said)} (in an answer of HTTP {answer.status})"
    names = [fields.get(name) for name in ("code", "status", "type")]
    names.sort(key=lambda name: name not in OF_EVERY_REQUEST)
    status = next((found for name in names if (found := _status_of(name))), answer.status)
    code = names[0] if isinstance(names[0], str | int) else None
    own = ErrorBody(message, code, metadata=fields.get("metadata"))
    return replace(answer, status=status, own_error=own)


def _status_of(code: object) -> int | None:
    """Return the HTTP status of an error that a code stands for."""
    if isinstance(code, str) and code in STATUS_OF:
        return STATUS_OF[code]
    digits = code if isinstance(code, str) else str(code) if isinstance(code, int) else ""
    number = int(digits) if digits.isdecimal() and len(digits) == len("500") else 0
    return number if 400 <= number < 600 else None
