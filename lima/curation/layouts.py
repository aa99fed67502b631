"""Conversations in the layouts that data sets come in.

* LIMA: `{"conversations": ["user", "assistant", …]}`; a lone text counts as a list of one.
* ShareGPT: `{"conversations": [{"from": "human", "value": …}, …]}`.
* Chat: `{"messages": [{"role": "user", "content": …}, …]}`.
* LLaMA-Factory: `{"instruction", "input", "output", "history": [[user, assistant], …]}`.
* Pairs: `{"prompt", "response"}`; without a response for a test set.
"""

from typing import Any

from lima.curation.alpaca import join
from lima.curation.records import Record

ROLES = {"user": 0, "human": 0, "assistant": 1, "gpt": 1, "model": 1}
"""Whose turn it is: even utterances are the user's."""


def conversation(record: Record) -> tuple[str, ...]:
    """Return the utterances of a record in turn, the user's first.

    Raises:
        ValueError: the record has none of the layouts, a turn out of order, or an empty one.

    """
    turns = _turns(record)
    if not turns:
        raise ValueError("no conversation in a known layout")
    for index, turn in enumerate(turns):
        if not isinstance(turn, str) or not turn.strip():
            raise ValueError(f"utterance {index + 1} is not text, or empty")
    return tuple(turns)


def _turns(record: Record) -> list[Any]:
    for key, role, content in (("conversations", "from", "value"), ("messages", "role", "content")):
        found = record.get(key)
        if isinstance(found, str):
            return [found]
        if isinstance(found, list):
            return [_turn(i, item, role, content) for i, item in enumerate(found)]
    if isinstance(record.get("instruction"), str):
        prompt = join(record["instruction"], str(record.get("input") or ""))
        return [*_history(record.get("history")), prompt, *_response(record.get("output"))]
    if isinstance(record.get("prompt"), str):
        return [record["prompt"], *_response(record.get("response"))]
    return []


def _turn(index: int, item: Any, role: str, content: str) -> Any:
    if not isinstance(item, dict):
        return item
    if ROLES.get(str(item.get(role))) != index % 2:
        raise ValueError(f"utterance {index + 1} is by {item.get(role)!r}, out of turn")
    return item.get(content)


def _history(value: Any) -> list[Any]:
    if not value:
        return []
    if not isinstance(value, list) or not all(isinstance(p, list) and len(p) == 2 for p in value):
        raise ValueError("the history is not a list of pairs")
    return [turn for pair in value for turn in pair]


def _response(value: Any) -> list[Any]:
    return [] if value is None or value == "" else [value]
