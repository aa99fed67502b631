"""Conversations in the layouts that data sets come in: each record is read whole, or refused.

What a layout has no place for, as a system prompt or a second response, would change the meaning of
an example if it were left out without a word. So a record that holds such text is no example.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lima.data.plain_text import tidy

LISTS = {"conversations": ("from", "value"), "messages": ("role", "content")}
"""Keys of whole conversations, and in their items: who speaks, and what."""
ROLES = {"user": 0, "human": 0, "assistant": 1, "gpt": 1, "model": 1}
"""Whose turn it is: even utterances are the user's."""
SYSTEM = ("system", "developer")
PROMPTS = ("instruction", "prompt")
CONTEXTS = ("input", "context")
"""Of a prompt, after a blank line."""
RESPONSES = ("output", "response", "completion")
PREFERENCE = ("chosen", "rejected")
UNPLACED = (
    *("system", "system_prompt", "system_message", "tools", "functions", "tool_calls"),
    *("function_call", "image", "images", "audio", "audios", "video", "videos"),
    *("thinking", "reasoning", "reasoning_content"),
)
"""What a conversation or a message may hold beside words, and a layout of LIMA cannot."""
CONTENT = {*LISTS, *PROMPTS, *CONTEXTS, *RESPONSES, *PREFERENCE, *UNPLACED, "history"}
"""Keys whose texts belong to a conversation."""
METADATA = {
    *("id", "_id", "idx", "index", "key", "hash", "question_id", "prompt_id", "uuid"),
    *("source", "dataset", "category", "categories", "topic", "task", "type", "tags", "split"),
    *("url", "licence", "license", "author", "authors", "created", "date", "lang", "language"),
    *("meta", "metadata"),
}
"""Keys whose texts say something of an example: beside a lone prompt no others are passed over."""
NO_INPUT = {"", "noinput", "<noinput>", "no input", "n/a"}
"""What stands in Alpaca's `input` where there is none."""


@dataclass(frozen=True)
class Layout:
    """A layout by example: a record, and the conversation that it is read as."""

    name: str
    record: Mapping[str, Any]
    conversation: tuple[str, ...]
    chosen: bool = False
    """Only read so where the source says `chosen: true`."""


LAYOUTS = (
    Layout("LIMA", {"conversations": ["p", "r"]}, ("p", "r")),
    Layout("LIMA, a prompt for a test set", {"conversations": ["p"]}, ("p",)),
    Layout("the same as a text", {"conversations": "p"}, ("p",)),
    Layout(
        "ShareGPT",
        {"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "r"}]},
        ("p", "r"),
    ),
    Layout(
        "chat",
        {"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]},
        ("p", "r"),
    ),
    Layout("Alpaca", {"instruction": "p", "input": "c", "output": "r"}, ("p\n\nc", "r")),
    Layout(
        "LLaMA-Factory",
        {"instruction": "p2", "input": "", "output": "r2", "history": [["p1", "r1"]]},
        ("p1", "r1", "p2", "r2"),
    ),
    Layout("Dolly", {"instruction": "p", "context": "c", "response": "r"}, ("p\n\nc", "r")),
    Layout("pairs", {"prompt": "p", "response": "r"}, ("p", "r")),
    Layout("pairs", {"prompt": "p", "output": "r"}, ("p", "r")),
    Layout("TRL", {"prompt": "p", "completion": "r"}, ("p", "r")),
    Layout(
        "TRL, of messages",
        {
            "prompt": [{"role": "user", "content": "p"}],
            "completion": [{"role": "assistant", "content": "r"}],
        },
        ("p", "r"),
    ),
    Layout("a prompt for a test set", {"prompt": "p"}, ("p",)),
    Layout("preferences", {"prompt": "p", "chosen": "r", "rejected": "x"}, ("p", "r"), chosen=True),
    Layout(
        "preferences, of messages",
        {
            "chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}],
            "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x"}],
        },
        ("p", "r"),
        chosen=True,
    ),
)
"""What is read; the reference shows it, and a test reads each."""


def conversation(record: Mapping[str, Any], *, chosen: bool = False) -> tuple[str, ...]:
    """Return the utterances of a record in turn, the user's first.

    Args:
        record: In one of `LAYOUTS`.
        chosen: Take the better of two responses; without, a record with two is none.

    Raises:
        ValueError: the record has none of the layouts, a turn out of order or an empty one, or a
            text that the layout has no place for.

    """
    refuse_unwanted(record)
    turns, read = _turns({k: v for k, v in record.items() if v is not None}, chosen=chosen)
    if not turns:
        raise ValueError(f"no conversation in a known layout (keys: {', '.join(sorted(record))})")
    for index, turn in enumerate(turns):
        if not isinstance(turn, str):
            raise ValueError(f"utterance {index + 1} is not text")
        if not turn.strip():
            role = "response" if index % 2 else "prompt"
            raise ValueError(f"utterance {index + 1} is an empty {role}; fill or drop it")
    refuse_unread(record, read, turns)
    if len(turns) % 2 and (unknown := _texts_beside(record)):
        raise ValueError(f"no response, but text under keys that no layout has: {unknown}")
    return tuple(turns)


def refuse_unwanted(record: Mapping[str, Any]) -> None:
    """Refuse a record, or a message, that its own keys say is not to be learned from.

    KTO's records (`prompt`, `completion`, `label`) hold responses that people turned down; of
    OpenAI's messages some have the `weight` 0, of axolotl's some `train: false`.

    Raises:
        ValueError: it is such a one.

    """
    label = record.get("label")
    if label is False or ("completion" in record and label == 0):
        raise ValueError("label is false: a response that people turned down")
    weight = record.get("weight")
    if weight == 0 or record.get("train") is False:
        key = "weight is 0" if weight == 0 else "train is false"
        raise ValueError(f"{key}: not to be learned from, which this layout cannot say; drop it")


def refuse_unread(record: Mapping[str, Any], read: Collection[str], turns: Sequence[str]) -> None:
    """Refuse a record with content that is not read.

    Args:
        record: What is read.
        read: Keys that were read.
        turns: The utterances; what only repeats one of them is no loss.

    Raises:
        ValueError: there is such content; the message names its keys.

    """
    said = {turn.strip() for turn in turns}
    left = sorted(
        key
        for key in CONTENT.intersection(record).difference(read)
        if record[key] and not said.issuperset(_texts_of(record[key]))
    )
    if left:
        raise ValueError(f"{', '.join(left)}: no place for it in this layout, and it is not empty")


def join(instruction: str, context: str) -> str:
    """Return the prompt of an instruction and its input."""
    context = tidy(context)
    plain = tidy(instruction)
    return plain if context.casefold().rstrip(".") in NO_INPUT else f"{plain}\n\n{context}"


def _turns(record: Mapping[str, Any], *, chosen: bool) -> tuple[list[Any], set[str]]:
    """Return the utterances of a record, and the keys that were read."""
    if chosen and "chosen" in record:
        prompt, read = _prompt(record)
        better = _messages(record["chosen"], len(prompt))
        if len(better) == 1 and not prompt:
            raise ValueError("a chosen response without a prompt")
        whole = better[: len(prompt)] == prompt  # it begins with the prompt
        return better if whole else [*prompt, *better], {*read, *PREFERENCE}
    for key in LISTS:
        if key in record:
            return _conversation(record[key]), {key}
    prompt, read = _prompt(record)
    if not prompt:
        return [], read
    key = _only(record, RESPONSES)
    return [*prompt, *(_messages(record[key], len(prompt)) if key else ())], {*read, key}


def _prompt(record: Mapping[str, Any]) -> tuple[list[Any], set[str]]:
    """Return what comes before the response, and the keys that were read."""
    key, context = _only(record, PROMPTS), _only(record, CONTEXTS)
    found = record.get(key)
    if isinstance(found, list):
        return _messages(found, 0), {key}
    if not isinstance(found, str):
        return [], set()
    if not isinstance(record.get(context, ""), str):
        raise ValueError(f"{context} is not text")
    prompt = join(found, record.get(context, "")) if context or key == PROMPTS[0] else found
    return [*_history(record.get("history")), prompt], {key, context, "history"}


def _only(record: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return the one of some keys that a record has, or ""."""
    there = [key for key in keys if key in record]
    if len(there) > 1:
        raise ValueError(f"{' and '.join(there)}: which of them is meant?")
    return there[0] if there else ""


def _conversation(value: Any) -> list[Any]:
    """Return a text, or a list of texts or messages, as utterances."""
    items = value if isinstance(value, list) else [value]
    return [_turn(index, item) for index, item in enumerate(items)]


def _messages(value: Any, before: int) -> list[Any]:
    """Return a text, or a list of messages, as utterances that follow some others."""
    if not isinstance(value, list):
        return [value]
    if not all(isinstance(item, dict) for item in value):
        raise ValueError("a list of texts in place of one: which of them is meant?")
    # Of a conversation that is whole, the first is the user's whatever is before.
    first = 0 if _speaker(value[0] if value else None) == 0 else before
    return [_turn(first + i, item) for i, item in enumerate(value)]


def _speaker(item: Any) -> int | None:
    if not isinstance(item, dict):
        return None
    named = (ROLES.get(str(item[role])) for role, _ in LISTS.values() if role in item)
    return next(named, None)


def _turn(index: int, item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    if unplaced := [key for key in UNPLACED if item.get(key)]:
        raise ValueError(f"utterance {index + 1}: no place for {', '.join(unplaced)}")
    refuse_unwanted(item)
    if _speaker(item) != index % 2:
        names = [str(item[role]) for role, _ in LISTS.values() if role in item]
        if names and names[0] in SYSTEM:
            raise ValueError(f"utterance {index + 1}: no place for a {names[0]} prompt; drop it")
        raise ValueError(f"utterance {index + 1} is by {' '.join(names)!r}, out of turn")
    return next((item[content] for _, content in LISTS.values() if content in item), None)


def _history(value: Any) -> list[Any]:
    if not value:
        return []
    if not isinstance(value, list) or not all(isinstance(p, list) and len(p) == 2 for p in value):
        raise ValueError("the history is not a list of pairs")
    return [turn for pair in value for turn in pair]


def _texts_of(value: Any) -> set[str]:
    """Return the texts of a value, at any depth that content has."""
    if isinstance(value, list):
        return {text for item in value for text in _texts_of(item)}
    if isinstance(value, dict):
        return {text for _, key in LISTS.values() if key in value for text in _texts_of(value[key])}
    return {str(value).strip()}


def _texts_beside(record: Mapping[str, Any]) -> str:
    """Return the keys of a record that may hold a response, as text."""
    known = CONTENT | METADATA
    kinds = str, list, dict
    return ", ".join(
        sorted(k for k, v in record.items() if k not in known and isinstance(v, kinds) and v)
    )
