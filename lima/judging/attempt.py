"""What an attempt to have a response scored came to, and how an answer is read."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from lima.clock import now
from lima.judging.rubrics import LIKERT, RUBRICS, Reading, Rubric

Status = Literal["ok", "parse_fail", "refusal", "truncated", "api_error"]

RATE_LIMITED = 429
_WORTH_A_RETRY = (408, 409, 425, RATE_LIMITED)


@dataclass(frozen=True)
class Attempt:
    """One request to the judge; the fields are columns of the table `judgments`, but for `sent`.

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

    @property
    def rate_limited(self) -> bool:
        """Whether the endpoint turned the request away unread, which says nothing about it."""
        return self.http_status == RATE_LIMITED

    @property
    def permanent(self) -> bool:
        """Whether the endpoint calls the request itself wrong, so that it would again."""
        status = self.http_status or 0
        return self.status == "api_error" and 400 <= status < 500 and status not in _WORTH_A_RETRY


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    model: str | None = None
    usage: _Usage | None = None


def read_completion(
    body: bytes, http_status: int, request_id: str | None, rubric: Rubric = RUBRICS[LIKERT]
) -> Attempt:
    """Turn the body of an answer into an attempt, its words read as `rubric` says.

    Read strictly, which the client library does not do: to it an answer without choices is an
    object without choices.
    """
    try:
        completion = msgspec.json.decode(body, type=_Completion)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Attempt(
            "api_error",
            error=f"not a chat completion: {error}",
            http_status=http_status,
            request_id=request_id,
        )
    choice, usage = completion.choices[0], completion.usage or _Usage()
    status, reading, error_text = _outcome(choice, rubric)
    return Attempt(
        status,
        score=reading.score,
        label=reading.label,
        verdict=choice.message.content,
        error=error_text,
        http_status=http_status,
        request_id=request_id,
        judge_version=completion.model,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _outcome(choice: _Choice, rubric: Rubric) -> tuple[Status, Reading, str | None]:
    """Return status, what was read and what went wrong.

    A refusal is what the protocol marks as one, or an answer without words. Words that sound
    like a refusal are not searched for: a verdict may quote a response that declines.
    """
    message, nothing = choice.message, Reading()
    if choice.finish_reason == "length":
        return "truncated", nothing, "the verdict reached judge.max_tokens"
    if message.refusal or choice.finish_reason == "content_filter":
        return "refusal", nothing, message.refusal or "the endpoint's content filter"
    if not (message.content or "").strip():
        return "refusal", nothing, "an answer without words"
    reading = rubric.read(message.content or "")
    if reading is None:
        error = f"the verdict does not end with {rubric.wanted} on its own line, or ends with two"
        return "parse_fail", nothing, error
    return "ok", reading, None
