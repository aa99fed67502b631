"""Dialogues: what was said in live conversations, to be labelled turn by turn or as a whole.

A turn is a row of `generations` whose prompt holds everything said before; its source names the
conversation: `chat/ID`. Conversations of two models are compared where they began alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from lima.errors import DataError
from lima.rating.responses import COLUMNS, Response, Responses, item_id
from lima.spec.codec import sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS, RUNS

CHAT = "chat/"
STAGE = "chat"
"""What the table `runs` calls a run of conversations."""


@dataclass(frozen=True)
class Turn:
    """An answer in a conversation: its key, and what was said up to and with it."""

    generation_key: str
    utterances: tuple[str, ...]
    arm: str
    prompt_index: int
    source: str
    at: datetime


@dataclass(frozen=True)
class ChatAnswer:
    """An answer in a conversation that was held, and the item that its labels are about."""

    run_id: str
    arm: str
    model: str
    conversation_id: str
    turn: int
    item_id: str


def chat_answers(tables: Tables) -> list[ChatAnswer]:
    """Return all answers in conversations of a study, labelled or not."""
    runs = tables.read(RUNS, ["run_id", "stage"]).to_pylist()
    chats = {row["run_id"] for row in runs if row["stage"] == STAGE}
    columns = ["run_id", "arm", "model", "source", "prompt", "prompt_key", "generation_key"]
    parts = tables.map(GENERATIONS, columns, pa.Table.to_pylist, runs=chats) if chats else ()
    return [
        ChatAnswer(
            *(row["run_id"], row["arm"], row["model"]),
            conversation_id(row["source"], row["prompt"]),
            turn_number(row["prompt"]),
            item_id("dialogue", row["prompt_key"], [row["generation_key"]]),
        )
        for _, rows in parts
        for row in rows
    ]


def conversation_id(source: str, prompt: Iterable[str]) -> str:
    """Return which conversation an answer belongs to; one that was no chat is named by itself."""
    is_chat = source.startswith(CHAT)
    return source.removeprefix(CHAT) if is_chat else sha256_key(list(prompt)[:1])[:12]


def turn_number(prompt: Iterable[str]) -> int:
    """Return which answer of its conversation follows a prompt; 1 is the first."""
    return len(list(prompt)) // 2 + 1


def read_turns(storage: Storage, run: str) -> dict[str, list[Turn]]:
    """Return the turns of each conversation of a run, in order.

    Raises:
        DataError: its shards cannot be read.

    """
    tables = Tables(storage)
    parts = [part for _, part in tables.map(GENERATIONS, [*COLUMNS, "at"], lambda p: p, runs={run})]
    tables.require_readable()
    found: dict[str, list[Turn]] = {}
    for row in sorted((r for p in parts for r in p.to_pylist()), key=lambda r: len(r["prompt"])):
        if row["source"].startswith(CHAT):
            found.setdefault(row["source"].removeprefix(CHAT), []).append(_turn(row))
    return found


def read_dialogues(storage: Storage, run: str) -> Responses:
    """Return whole dialogues as responses to what they began with, by the key of that.

    A response's `prompt` is all that was said before the last answer, its `text` that answer.

    Raises:
        DataError: the run has no conversations.

    """
    found: Responses = {}
    for turns in read_turns(storage, run).values():
        last = turns[-1]
        opening = sha256_key(list(last.utterances[:1]))
        found.setdefault(
            opening,
            Response(
                last.generation_key,
                last.arm,
                opening,
                last.prompt_index,
                last.source,
                last.utterances[:-1],
                last.utterances[-1],
            ),
        )
    if not found:
        raise DataError(
            f"{storage.uri}: run {run} holds no conversations; hold some with `lima-k8s chat`"
        )
    return found


def _turn(row: dict[str, Any]) -> Turn:
    utterances = (*row["prompt"], row["response"])
    place = (row["arm"], row["prompt_index"], row["source"])
    return Turn(row["generation_key"], utterances, *place, row["at"])
