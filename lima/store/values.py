"""The values that columns of tables may have, where they are few and others count them."""

from typing import Literal, get_args

Status = Literal["ok", "parse_fail", "refusal", "truncated", "api_error"]
"""Of an attempt at a judgment: only `ok` has a score or a label."""
STATUSES: tuple[Status, ...] = get_args(Status)
FinishReason = Literal["eot", "length", "prompt_too_long"]
"""Why a response ends: its end-of-turn token, the limit, or a prompt that left it no room."""
FINISH_REASONS: tuple[FinishReason, ...] = get_args(FinishReason)
