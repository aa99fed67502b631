"""What labels from elsewhere name must be in the storage, unless it is said to be new.

A typing error in a name would otherwise make a study, an arm or a prompt of its own, whose labels
are in no figure of the study they were meant for.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import pyarrow as pa

from lima.errors import InputError
from lima.rating.labels import known_groups
from lima.runs.lineage import experiments
from lima.spec.codec import sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS, GENERATIONS, RUNS

New: TypeAlias = Literal["experiment", "arms", "prompts"]
NEW: tuple[New, ...] = get_args(New)
NAMED = 20
"""Choices that a message names before it only counts."""


def refuse_unknown(
    rows: Sequence[Mapping[str, Any]],
    storage: Storage,
    experiment: str,
    *,
    new: Collection[New],
    prompts: bool,
) -> None:
    """Refuse labels of what the storage does not know.

    Args:
        rows: the labels, as rows of `annotations`.
        storage: where they are to go.
        experiment: the study that they are to belong to.
        new: what may be unknown; a new experiment has no arms and no prompts yet.
        prompts: whether their prompts are told as texts, so that they can be known.

    Raises:
        InputError: something is unknown; the message names what is known, and what to say.
        StorageError: storage cannot be reached.

    """
    if "experiment" in new:
        return
    everywhere = Tables(storage)
    known = experiments(everywhere)
    if experiment not in known:
        raise InputError(_unknown("experiment", [experiment], known, storage, "experiment"))
    labelled = Tables(storage, experiment).read(ANNOTATIONS, ["arm_1", "arm_2", "prompt_key"])
    if "arms" not in new:
        arms = _values(everywhere.read(RUNS, ["arm"])["arm"])
        arms |= _values(labelled["arm_1"]) | _values(labelled["arm_2"])
        wrong = {row[side] for row in rows for side in ("arm_1", "arm_2")} - arms - {None}
        if wrong:
            raise InputError(_unknown("arm", sorted(wrong), sorted(arms), storage, "arms"))
    if prompts and "prompts" not in new:
        there = _prompts(everywhere) | _values(labelled["prompt_key"])
        places = [n for n, row in enumerate(rows, 1) if row["prompt_key"] not in there]
        if places:
            raise InputError(
                f"{len(places)} of {len(rows)} labels are of prompts that nobody answered in "
                f"{storage.uri}, label {places[0]} first; a prompt is its whole text, of dialogues "
                "the first utterance. If they are new, say so: --new prompts"
            )


def refuse_other_groups(
    rows: Sequence[Mapping[str, Any]], where: str, storage: Storage, experiment: str
) -> None:
    """Refuse a rater whom the same study has in two groups: it would agree with itself.

    Args:
        rows: the labels, as rows of `annotations`.
        where: they come from.
        storage: where they are to go.
        experiment: the study that they are to belong to.

    Raises:
        InputError: a rater is in another group in these labels, or in the storage.
        StorageError: storage cannot be reached.

    """
    groups = known_groups(Tables(storage, experiment))
    for number, row in enumerate(rows, 1):
        rater, group = row["rater"], row["rater_group"]
        others = groups.setdefault(rater, set()) - {group}
        if others:
            raise InputError(
                f"{where}: label {number}: rater {rater!r} is {group} here, and "
                f"{' and '.join(sorted(others))} in other labels of {experiment}; a rater is of "
                "one group: mend that, or give one of the two another name"
            )
        groups[rater].add(group)


def _unknown(
    what: str, names: Sequence[str], known: Sequence[str], storage: Storage, new: New
) -> str:
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    listed = f"{', '.join(known[:NAMED]) or 'none'}{more}"
    named = ", ".join(map(repr, names[:NAMED]))
    return (
        f"{storage.uri} has no {what} {named}; there are: {listed}. "
        f"If it is new, say so: --new {new}"
    )


def _prompts(tables: Tables) -> set[str]:
    """Return the keys of all prompts that were answered, and of what dialogues began with."""

    def keys(part: pa.Table) -> set[str]:
        prompts: list[Any] = part["prompt"].to_pylist()
        opened = {prompt[0] for prompt in prompts if len(prompt) > 1}
        return _values(part["prompt_key"]) | {sha256_key([text]) for text in opened}

    found: set[str] = set()
    for _, part in tables.map(GENERATIONS, ["prompt_key", "prompt"], keys):
        found |= part
    return found


def _values(column: "pa.ChunkedArray[Any]") -> set[str]:
    return {value for value in column.to_pylist() if value is not None}
