"""Conversations as they are held: every turn and every label is on storage before it is shown."""

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lima.common.clock import now
from lima.errors import InputError, LimaError
from lima.generation.chat import ChatSpec, Responder
from lima.model.loading import RUN
from lima.rating.dialogues import CHAT, STAGE, read_turns, turn_number
from lima.rating.instructions import INSTRUCTIONS, Kind
from lima.rating.items import OURS_FIRST, EvaluationSpec, evaluation_identity
from lima.rating.labels import LABELLED, standing
from lima.rating.responses import item_id
from lima.runs.ledger import versions
from lima.spec.codec import canonical_json, encode, sha256_key
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS, GENERATIONS, RUNS

KIND: Kind = "dialogue"
LABELS = INSTRUCTIONS[KIND].labels


@dataclass
class Conversation:
    """What was said, and what was thought of each answer; of each label, also its event's id."""

    id: str
    utterances: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    labels: list[tuple[str, str] | None] = field(default_factory=list)
    opening: str | None = None
    """What the user is to say first, so that models can be compared."""
    at: datetime | None = None
    """When the last answer was given."""


class Conversations:
    """The conversations of one rater with one model; calls may come side by side."""

    def __init__(
        self,
        storage: Storage,
        spec: ChatSpec,
        responder: Responder,
        rater: str,
        openings: Sequence[str] = (),
    ) -> None:
        """Go on from what storage holds.

        Args:
            storage: Holds the tables.
            spec: Who is talked to.
            responder: Gives the answers.
            rater: A pseudonym of who talks and labels.
            openings: What conversations are to begin with; one each.

        Raises:
            DataError: the tables cannot be read.

        """
        self.spec, self.responder, self.rater, self._lock = spec, responder, rater, threading.Lock()
        self.turns = RunTable.of(storage, GENERATIONS, spec.identity)
        self.run = spec.identity["run_id"]
        asked = EvaluationSpec(spec.experiment, spec.arm, KIND, self.run, shared=0, seed=spec.seed)
        self.events = RunTable.of(storage, ANNOTATIONS, evaluation_identity(asked))
        record = {"chat": encode(spec), "evaluation": encode(asked)}
        storage.write(f"chats/run_id={self.run}.json", canonical_json(record).encode())
        _record_run(storage, spec)
        self.all = _read(storage, self.run, self.events, rater)
        begun = {c.utterances[0] for c in self.all.values()}
        for opening in openings:
            if opening not in begun:
                name = sha256_key([opening])[:12]
                self.all[name] = Conversation(name, opening=opening)

    def new(self) -> Conversation:
        """Return a conversation in which nothing was said: the next opening, else a free one."""
        unused = (c for c in self.all.values() if not c.utterances)
        found = next(unused, None) or Conversation(uuid.uuid4().hex[:12])
        self.all.setdefault(found.id, found)
        return found

    def last(self) -> Conversation:
        """Return the conversation to go on with: the next opening, else the latest, else a new."""
        said = [c for c in self.all.values() if c.at]
        unused = any(not c.utterances for c in self.all.values())
        if unused or not said:
            return self.new()
        return max(said, key=lambda c: (c.at, c.id))

    def named(self, name: object) -> Conversation:
        """Return a conversation by its id.

        Raises:
            InputError: there is none.

        """
        if not isinstance(name, str) or name not in self.all:
            raise InputError("there is no such conversation")
        return self.all[name]

    def say(self, conversation: Conversation, text: str) -> str:
        """Say something; return the answer, once it is on storage.

        Raises:
            InputError: nothing is said, or the conversation is to begin with something else.
            LimaError: there is no answer; nothing was said then.

        """
        text = text.strip()
        if not text:
            raise InputError("say something first")
        with self._lock:
            if conversation.opening not in (None, text) and not conversation.utterances:
                raise InputError("this conversation begins with the words that are given")
            prompt = [*conversation.utterances, text]
            reply = self.responder.reply(prompt)
            if reply.finish_reason == "prompt_too_long":
                raise LimaError("the conversation fills the model's context; begin a new one")
            turn, prompt_key = turn_number(prompt), sha256_key(prompt)
            key = sha256_key([self.run, conversation.id, prompt_key])
            row = {
                **{k: v for k, v in vars(reply).items() if k != "text"},
                "generation_key": key,
                "prompt_key": prompt_key,
                "prompt_index": list(self.all).index(conversation.id),
                "sample": 0,
                "source": f"{CHAT}{conversation.id}",
                "prompt": prompt,
                "response": reply.text,
                "model": self.spec.model_name,
                "at": (at := now()),
            }
            if not self.turns.write(f"chat-{conversation.id}-{turn:03d}", [row]):
                raise LimaError("another window went on with this conversation; load it again")
            conversation.utterances += [text, reply.text]
            conversation.keys.append(key)
            conversation.labels.append(None)
            conversation.at = at
            return reply.text

    def label(
        self, conversation: Conversation, turn: int, label: str, started_at: datetime | None = None
    ) -> None:
        """Label an answer, 1 is the first; another label takes the place of the one before.

        Raises:
            InputError: there is no such answer or label.

        """
        if label not in LABELS or not 1 <= turn <= len(conversation.keys):
            raise InputError(f"answer {turn} cannot be labelled {label!r}")
        with self._lock:
            event, before = str(uuid.uuid4()), conversation.labels[turn - 1]
            prompt = conversation.utterances[: 2 * turn - 1]
            key, prompt_key = conversation.keys[turn - 1], sha256_key(prompt)
            row = {
                "annotation_id": event,
                "event": LABELLED,
                "supersedes": before and before[1],
                "item_id": item_id(KIND, prompt_key, [key]),
                "presentation": 0,
                "kind": KIND,
                "rater": self.rater,
                "rater_group": "author",
                "label": label,
                "shown": OURS_FIRST,
                "prompt_key": prompt_key,
                "response_1": key,
                "arm_1": self.spec.arm,
                "conversation_id": conversation.id,
                "turn": turn,
                "instruction_hash": INSTRUCTIONS[KIND].hash,
                "started_at": started_at,
                "ended_at": now(),
                "written_at": now(),
            }
            self.events.write(f"chat-{conversation.id}-{turn:03d}-{event}", [row])
            conversation.labels[turn - 1] = (label, event)


def _record_run(storage: Storage, spec: ChatSpec) -> None:
    """Write the row of a run, once: whence its rows in `generations` come."""
    trained = spec.model.path.startswith(RUN) and not spec.base_url
    row = {
        "stage": STAGE,
        "parent_run_id": spec.model.path.removeprefix(RUN) if trained else None,
        "spec": canonical_json(spec.document),
        "versions": canonical_json(versions()),
        "created_at": now(),
    }
    RunTable.of(storage, RUNS, spec.identity).write("run", [row])


def _read(storage: Storage, run: str, events: RunTable, rater: str) -> dict[str, Conversation]:
    columns = ("annotation_id", "event", "supersedes", "rater", "label", "response_1")
    rows: list[dict[str, Any]] = standing(events.read(columns).to_pylist())
    labels = {
        row["response_1"]: (row["label"], row["annotation_id"])
        for row in rows
        if row["rater"] == rater
    }
    found = {}
    for name, turns in read_turns(storage, run).items():
        keys = [turn.generation_key for turn in turns]
        said = list(turns[-1].utterances)
        of_keys = [labels.get(key) for key in keys]
        found[name] = Conversation(name, said, keys, of_keys, at=turns[-1].at)
    return found
