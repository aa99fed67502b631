"""What an attempt to have an answer came to, and how the answer is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import msgspec

from lima.common.clock import now
from lima.endpoints.reading import Reader, Reading
from lima.store.values import Status

RATE_LIMITED = 429
_WORTH_A_RETRY = (408, 409, 425, RATE_LIMITED)
MOST_TOKENS = 10**9
"""Of one request. Who tells more, or less than none, has not told."""


@dataclass(frozen=True)
class Attempt:
    """One request; the fields are columns of the table `judgments`, but for `sent`.

    `sent` is false where there was no connection to send it over.
    """

    status: Status
    score: float | None = None
    label: str | None = None
    verdict: str | None = None
    error: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    judge_version: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = 0.0
    at: datetime = field(default_factory=now)
    sent: bool = True
    settings: str | None = None

    @property
    def answered(self) -> bool:
        """Whether a model has answered, for which an endpoint takes money."""
        return self.status != "api_error"

    @property
    def rate_limited(self) -> bool:
        """Whether the endpoint turned the request away unread, which says nothing about it."""
        return self.http_status == RATE_LIMITED

    @property
    def permanent(self) -> bool:
        """Whether the endpoint calls the request itself wrong, so that it would again."""
        status = self.http_status or 0
        return self.status == "api_error" and 400 <= status < 500 and status not in _WORTH_A_RETRY


def is_finished(attempts: Sequence[Attempt], most: int, is_good: Callable[[Attempt], bool]) -> bool:
    """Say whether a request needs no other attempt.

    An endpoint that turns a request away for its rate limit has not tried: that does not count. A
    request that it calls wrong is not sent again.

    Args:
        attempts: those so far.
        most: how many there may be.
        is_good: says whether an attempt is what was wanted.

    """
    if not attempts:
        return False
    counted = sum(not attempt.rate_limited for attempt in attempts)
    return is_good(attempts[-1]) or attempts[-1].permanent or counted >= most


class _Message(msgspec.Struct):
    """What dialects agree on is typed; the rest is looked at with care, and loses no answer."""

    content: str | list[Any] | None = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: Any = None
    error: Any = None


class _Completion(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    model: Any = None
    usage: Any = None


def read_completion(
    body: bytes,
    http_status: int,
    request_id: str | None,
    reader: Reader,
    limit: str,
) -> Attempt:
    """Turn the body of an answer into an attempt, its words read by `reader`.

    An answer must have a choice with a message, and nothing else: what it cost is lost otherwise.

    Args:
        body: JSON.
        http_status: under which it came.
        request_id: the endpoint's name for it.
        reader: how its words are read.
        limit: setting that limits its length.

    """
    try:
        completion = msgspec.json.decode(body, type=_Completion)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Attempt(
            "api_error",
            error=f"not a chat completion: {_no_completion(body, error)}",
            http_status=http_status,
            request_id=request_id,
        )
    choice = completion.choices[0]
    prompt_tokens, completion_tokens = _usage(completion.usage)
    status, reading, error_text = _read_choice(choice, reader, limit)
    if choice.error or choice.finish_reason == "error":  # of what is behind a gateway
        status, reading = "api_error", Reading()
        error_text = f"broken off by an error: {error_words(choice.error)}"
    return Attempt(
        status,
        score=reading.score,
        label=reading.label,
        verdict=_words(choice.message),
        error=error_text,
        http_status=http_status,
        request_id=request_id,
        judge_version=_text(completion.model),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )


def _no_completion(body: bytes, error: Exception) -> str:
    if body.lstrip().startswith((b"data:", b"event:", b":")):
        return "a stream of events, which nobody asked for; let the endpoint answer in one piece"
    return str(error)


def _read_choice(choice: _Choice, reader: Reader, limit: str) -> tuple[Status, Reading, str | None]:
    """Return status, what was read and what went wrong.

    A refusal is what the protocol marks as one. Words that sound like a refusal are not searched
    for: a verdict may quote a response that declines.
    """
    message, nothing = choice.message, Reading()
    if choice.finish_reason == "length":
        return "truncated", nothing, f"the answer reached {limit}"
    refused, words = _text(message.refusal), _words(message)
    if refused or choice.finish_reason == "content_filter":
        return "refusal", nothing, refused or "the endpoint's content filter"
    if not (words or "").strip():
        if message.reasoning_content or message.reasoning:
            return "truncated", nothing, f"words of reasoning alone, no answer; raise {limit}"
        return "parse_fail", nothing, "an answer without words"
    reading = reader.read(words or "")
    if reading is None:
        error = f"the verdict does not end with {reader.wanted} on its own line, or ends with two"
        return "parse_fail", nothing, error
    return "ok", reading, None


def _words(message: _Message) -> str | None:
    """Return what a message says; its content is a text, or a list of parts with texts."""
    if not isinstance(message.content, list):
        return message.content
    parts = [part.get("text") if isinstance(part, dict) else part for part in message.content]
    return "".join(part for part in parts if isinstance(part, str))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def error_words(error: object) -> str:
    """Return the words of an error: an object with a message, or a text."""
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) and message else "no word of why"


def _usage(told: object) -> tuple[int | None, int | None]:
    """Return the tokens of prompt and answer, in any of the dialects; None: not told."""
    usage = told if isinstance(told, dict) else {}
    prompt, answer = (
        next((tokens for name in names if (tokens := _tokens(usage.get(name))) is not None), None)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    )
    total = _tokens(usage.get("total_tokens"))
    if total is not None and prompt is None and answer is not None:
        prompt = _tokens(total - answer)
    elif total is not None and answer is None and prompt is not None:
        answer = _tokens(total - prompt)
    return prompt, answer


def _tokens(value: object) -> int | None:
    """Return a number of tokens, which some send as a float or as text; None: not told."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if 0 <= number <= MOST_TOKENS and number.is_integer() else None
