"""Which responses labels from elsewhere are about: those that the storage holds, by their keys.

A label that names its response as judges and annotators do meets theirs; one that does not makes
a pair of its own. Where several responses fit, the label has to say which: nothing is guessed.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lima.rating.dialogues import CHAT, conversation_id, turn_number
from lima.store.scan import Tables
from lima.store.tables import GENERATIONS, RUNS

_IDENTITY = ("run_id", "experiment", "arm", "seed", "sample", "prompt_key")
_COLUMNS = [*_IDENTITY, "generation_key", "source", "prompt", "finish_reason"]


@dataclass(frozen=True)
class Named:
    """A response in the storage, as far as a label can name it."""

    key: str
    run_id: str
    experiment: str
    arm: str
    seed: int
    sample: int
    prompt_key: str
    opening: str
    turn: int
    conversation_id: str
    is_chat: bool


@dataclass(frozen=True)
class Wanted:
    """What a label says of a response.

    Args:
        arm: whose it is.
        prompt: text that it answers, of dialogues the first; None: told by its key.
        prompt_key: key of what it answers.
        dialogue: whether it is an answer in a conversation.
        whole: whether the conversation up to its last answer is meant.
        turn: which answer of its conversation; None: not told.
        conversation: its conversation; None: not told.
        run: of generation; None: not told.
        sample: 0 is the first response to the prompt, which judges and annotators see.

    """

    arm: str
    prompt: str | None
    prompt_key: str | None
    dialogue: bool = False
    whole: bool = False
    turn: int | None = None
    conversation: str | None = None
    run: str | None = None
    sample: int = 0


class Responses:
    """The responses that labels may be about."""

    def __init__(self, found: Collection[Named], experiment: str) -> None:
        """Hold responses; those of `experiment` come before those of others."""
        self.experiment = experiment
        self.by_key = {response.key: response for response in found}
        self._by_prompt: dict[tuple[str, str], list[Named]] = {}
        for response in found:
            for prompt in {response.opening, response.prompt_key}:
                self._by_prompt.setdefault((response.arm, prompt), []).append(response)

    def find(self, wanted: Wanted, side: int) -> Named | None:
        """Return the response that a label means; None: the storage holds none such.

        Raises:
            ValueError: several are meant, or not the run or sample that is told.

        """
        every = self._by_prompt.get((wanted.arm, wanted.prompt or wanted.prompt_key or ""), [])
        found: Sequence[Named] = [
            r for r in every if r.sample == wanted.sample and wanted.run in (None, r.run_id)
        ]
        if not found and (wanted.run or wanted.sample):
            raise ValueError(
                f"run_{side} and sample name no response of {wanted.arm!r} to this prompt"
            )
        found = _preferred(found, lambda r: r.experiment == self.experiment)
        found = _preferred(found, lambda r: r.is_chat == wanted.dialogue)
        found = _preferred(found, lambda r: r.conversation_id == wanted.conversation)
        found = _of_turn(found, wanted)
        if len(found) > 1:
            raise ValueError(_several(found, wanted.arm, side))
        return found[0] if found else None


def read_named(
    tables: Tables,
    experiment: str,
    arms: Collection[str],
    prompts: Collection[str],
    keys: Collection[str],
) -> Responses:
    """Return the responses of a storage that labels may be about.

    Args:
        tables: of the storage; responses of all experiments count.
        experiment: whose responses come first.
        arms: that the labels name.
        prompts: texts, or keys of prompts, that they name.
        keys: of responses that they name.

    """
    runs = tables.everywhere().read(RUNS, ["run_id", "arm"]).to_pylist()
    wanted = {row["run_id"] for row in runs if row["arm"] in arms}

    def named(part: pa.Table) -> list[Named]:
        return [
            _named(row)
            for row in part.to_pylist()
            if row["finish_reason"] != "prompt_too_long"
            and (
                row["generation_key"] in keys
                or row["prompt_key"] in prompts
                or row["prompt"][0] in prompts
            )
        ]

    parts = tables.everywhere().map(GENERATIONS, _COLUMNS, named, runs=wanted) if wanted else ()
    return Responses([response for _, part in parts for response in part], experiment)


def _named(row: dict[str, Any]) -> Named:
    return Named(
        key=row["generation_key"],
        opening=row["prompt"][0],
        turn=turn_number(row["prompt"]),
        conversation_id=conversation_id(row["source"], row["prompt"]),
        is_chat=row["source"].startswith(CHAT),
        **{name: row[name] for name in _IDENTITY},
    )


def _of_turn(found: Sequence[Named], wanted: Wanted) -> Sequence[Named]:
    if wanted.whole:
        last = {(r.run_id, r.conversation_id): r for r in sorted(found, key=lambda r: r.turn)}
        return list(last.values())
    if wanted.turn is not None:
        return [r for r in found if r.turn == wanted.turn]
    # A text is a prompt of one utterance before it is the beginning of a longer one.
    return found if wanted.dialogue else _preferred(found, lambda r: r.turn == 1)


def _preferred(found: Sequence[Named], fits: Callable[[Named], bool]) -> Sequence[Named]:
    """Return the responses that fit; if none does, all."""
    return [response for response in found if fits(response)] or found


def _several(found: Sequence[Named], arm: str, side: int) -> str:
    """Return what to say where several responses are meant, and how they are told apart."""
    if len({response.run_id for response in found}) > 1:
        told = sorted({f"{r.run_id} of seed {r.seed} in {r.experiment}" for r in found})
        return f"{len(found)} responses of {arm!r} fit; name a run in run_{side}: {', '.join(told)}"
    turns = sorted({response.turn for response in found})
    if len(turns) > 1:
        return f"{len(found)} answers of {arm!r} fit; tell the turn: {', '.join(map(str, turns))}"
    told = sorted({response.conversation_id for response in found})
    return f"{len(found)} answers of {arm!r} fit; tell the conversation_id: {', '.join(told)}"
