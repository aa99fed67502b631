"""Responses that were made elsewhere, read from files.

Layouts, told apart by their keys: our own JSONL (`prompt`, a text or utterances, and `response`;
or `conversations`, of texts or of ShareGPT's turns, whose last one is the response), AlpacaEval
(`instruction`, `output`; a JSON list or JSONL) and FastChat's model answers (`question_id` with
`choices` or `text`), whose questions are in a file of their own.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lima.common.encoding import not_utf8, unpacked
from lima.errors import DataError, StorageError
from lima.spec import RESPONSES
from lima.spec.codec import sha256_key
from lima.store.storage import Storage

_ROLES = (("human", "user"), ("gpt", "assistant", "chatgpt", "model"))
"""Of the turns of a conversation, the user's and the model's; a system's prompt is neither."""


def read_responses_file(path: str) -> dict[str, str]:
    """Return the response to each prompt, by `text_key` of the prompt.

    Args:
        path: FILE, or FILE#QUESTIONS for FastChat's layout; local or a storage URI.

    Raises:
        DataError: a file cannot be read, or an entry has none of the layouts; it is named.

    """
    name, _, questions = path.removeprefix(RESPONSES).partition("#")
    asked = _questions(questions) if questions else None
    found: dict[str, str] = {}
    for where, entry in _entries(name):
        prompt, response = _response(entry, asked, where)
        if found.setdefault(text_key(prompt), response) != response:
            raise DataError(f"{where}: a second, different response to the same prompt")
    if not found:
        raise DataError(f"{name}: no responses in it")
    return found


def text_key(prompt: Sequence[str]) -> str:
    """Return the key of a prompt whatever white space stands around its utterances."""
    return sha256_key([utterance.strip() for utterance in prompt])


def _response(entry: Any, asked: Mapping[Any, str] | None, where: str) -> tuple[list[str], str]:
    keys = set(entry) if isinstance(entry, dict) else set[str]()
    if "conversations" in keys:
        turns = _turns(entry["conversations"], where)
        return turns[:-1], turns[-1]
    if {"prompt", "response"} <= keys:
        return _utterances(entry["prompt"], where), _text(entry["response"], where, "response")
    if {"instruction", "output"} <= keys:
        return [_instruction(entry, where)], _text(entry["output"], where, "output")
    if "question_id" in keys:
        return [_asked(entry, asked, where)], _answer(entry, where)
    raise DataError(
        f"{where}: not a response: it needs prompt and response, conversations, instruction and "
        "output, or question_id and choices"
    )


def _text(value: object, where: str, name: str) -> str:
    """Return a value that must be a text, of characters that can be written."""
    if not isinstance(value, str):
        raise DataError(f"{where}: {name} is not a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: {name} holds half a character (a lone surrogate)") from None
    return value


def _utterances(value: object, where: str) -> list[str]:
    """Return a prompt, a text or utterances whose first and last are the user's."""
    texts = value if isinstance(value, list) else [value]
    return [_text(text, where, "prompt") for text in texts]


def _turns(value: object, where: str) -> list[str]:
    """Return the utterances of a conversation: texts, or ShareGPT's turns."""
    if not isinstance(value, list) or len(value) < 2 or len(value) % 2:
        raise DataError(f"{where}: conversations is no list of utterances by turns")
    return [_turn(turn, number, where) for number, turn in enumerate(value)]


def _turn(turn: object, number: int, where: str) -> str:
    name = f"conversations[{number}]"
    if not isinstance(turn, dict):
        return _text(turn, where, name)
    role, text = (turn.get(a, turn.get(b)) for a, b in (("from", "role"), ("value", "content")))
    if role not in _ROLES[number % 2]:
        expected = "the user" if number % 2 == 0 else "the model"
        raise DataError(f"{where}: {name} is of {role!r}, where {expected} has its turn")
    return _text(text, where, name)


def _instruction(entry: dict[str, Any], where: str) -> str:
    """Return the prompt of an AlpacaEval entry; some have an input beside the instruction."""
    parts = [_text(entry[k], where, k) for k in ("instruction", "input") if entry.get(k)]
    if not parts:
        raise DataError(f"{where}: instruction is empty")
    return "\n\n".join(parts)


def _asked(entry: dict[str, Any], asked: Mapping[Any, str] | None, where: str) -> str:
    if asked is None:
        raise DataError(
            f"{where}: FastChat's answers do not hold their questions; name their file too: "
            "responses:ANSWERS#QUESTIONS"
        )
    question = _question_id(entry, where)
    if question not in asked:
        raise DataError(f"{where}: question {question} is not in the questions")
    return asked[question]


def _answer(entry: dict[str, Any], where: str) -> str:
    """Return the answer to the first turn; a second turn has no prompt that others share."""
    if "text" in entry:
        return _text(entry["text"], where, "text")
    try:
        first = entry["choices"][0]["turns"][0]
    except (KeyError, IndexError, TypeError):
        raise DataError(f"{where}: an answer without choices[0].turns[0]") from None
    return _text(first, where, "choices[0].turns[0]")


def _questions(path: str) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for where, entry in _entries(path):
        try:
            question = entry.get("text") or entry["turns"][0]
        except (KeyError, IndexError, TypeError, AttributeError):
            raise DataError(f"{where}: not a question of FastChat") from None
        found[_question_id(entry, where)] = _text(question, where, "the question")
    return found


def _question_id(entry: dict[str, Any], where: str) -> int | str:
    number = entry.get("question_id")
    if not isinstance(number, int | str):
        raise DataError(f"{where}: question_id is neither a number nor a text")
    return number


def _entries(path: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a file, each with where it is: a line, or a place in a list."""
    text = _read(path)
    if text.lstrip().startswith("["):
        entries = _json(text, path)
        yield from ((f"{path}:[{number}]", entry) for number, entry in enumerate(entries))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", _json(line, f"{path}:{number}")


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: neither a JSON list nor JSONL ({error})") from None


def _read(path: str) -> str:
    folder, _, name = path.rpartition("/")
    try:
        data = Storage(folder).read(name) if "://" in path else Path(path).expanduser().read_bytes()
        data = unpacked(data)
    except (OSError, ValueError, StorageError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if problem := not_utf8(data):
        raise DataError(f"{path}: {problem}")
    return data.decode("utf-8-sig")
