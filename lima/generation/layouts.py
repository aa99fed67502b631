"""Responses that were made elsewhere, read from files.

Layouts, told apart by their keys: our own JSONL (`prompt`, a text or utterances, and `response`;
or `conversations`, whose last utterance is the response), AlpacaEval (`instruction`, `output`; a
JSON list or JSONL) and FastChat's model answers (`question_id` with `choices` or `text`), whose
questions are in a file of their own.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lima.codec import sha256_key
from lima.encoding import not_utf8, unpacked
from lima.errors import DataError, StorageError
from lima.spec import RESPONSES
from lima.storage import Storage


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
    for number, entry in enumerate(_entries(name), start=1):
        prompt, response = _response(entry, asked, f"{name}:{number}")
        if found.setdefault(text_key(prompt), response) != response:
            raise DataError(f"{name}:{number}: a second, different response to the same prompt")
    if not found:
        raise DataError(f"{name}: no responses in it")
    return found


def text_key(prompt: list[str] | tuple[str, ...]) -> str:
    """Return the key of a prompt whatever white space stands around its utterances."""
    return sha256_key([utterance.strip() for utterance in prompt])


def _response(entry: Any, asked: Mapping[Any, str] | None, where: str) -> tuple[list[str], str]:
    if isinstance(entry, dict):
        turns = entry.get("conversations")
        if isinstance(turns, list) and len(turns) >= 2 and len(turns) % 2 == 0:
            return turns[:-1], turns[-1]
        if isinstance(response := entry.get("response"), str) and "prompt" in entry:
            prompt = entry["prompt"]
            return ([prompt] if isinstance(prompt, str) else list(prompt)), response
        if isinstance(output := entry.get("output"), str) and "instruction" in entry:
            return [_instruction(entry)], output
        if "question_id" in entry:
            return [_asked(entry, asked, where)], _answer(entry, where)
    raise DataError(
        f"{where}: not a response: it needs prompt and response, instruction and output, or "
        "question_id and choices"
    )


def _instruction(entry: dict[str, Any]) -> str:
    """Return the prompt of an AlpacaEval entry; some have an input beside the instruction."""
    parts = [entry["instruction"], entry.get("input") or ""]
    return "\n\n".join(part for part in parts if part)


def _asked(entry: dict[str, Any], asked: Mapping[Any, str] | None, where: str) -> str:
    if asked is None:
        raise DataError(
            f"{where}: FastChat's answers do not hold their questions; name their file too: "
            "responses:ANSWERS#QUESTIONS"
        )
    if entry["question_id"] not in asked:
        raise DataError(f"{where}: question {entry['question_id']} is not in the questions")
    return asked[entry["question_id"]]


def _answer(entry: dict[str, Any], where: str) -> str:
    """Return the answer to the first turn; a second turn has no prompt that others share."""
    if isinstance(text := entry.get("text"), str):
        return text
    try:
        return str(entry["choices"][0]["turns"][0])
    except (KeyError, IndexError, TypeError):
        raise DataError(f"{where}: an answer without choices[0].turns[0]") from None


def _questions(path: str) -> dict[Any, str]:
    found = {}
    for number, entry in enumerate(_entries(path), start=1):
        try:
            found[entry["question_id"]] = entry.get("text") or entry["turns"][0]
        except (KeyError, IndexError, TypeError, AttributeError):
            raise DataError(f"{path}:{number}: not a question of FastChat") from None
    return found


def _entries(path: str) -> list[Any]:
    text = _text(path)
    try:
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError as error:
        raise DataError(f"{path}: neither a JSON list nor JSONL ({error})") from None


def _text(path: str) -> str:
    folder, _, name = path.rpartition("/")
    try:
        data = Storage(folder).read(name) if "://" in path else Path(path).expanduser().read_bytes()
        data = unpacked(data)
    except (OSError, ValueError, StorageError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if problem := not_utf8(data):
        raise DataError(f"{path}: {problem}")
    return data.decode("utf-8-sig")
