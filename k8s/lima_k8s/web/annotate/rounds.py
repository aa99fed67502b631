"""A round of labelling: items of a study's storage in, events in the table `annotations` out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lima.common.clock import now
from lima.errors import InputError
from lima.rating.dialogues import conversation_id, turn_number
from lima.rating.instructions import instructions
from lima.rating.items import EvaluationSpec, Item, evaluation_identity, plan_items, write_items
from lima.spec.codec import decode, encode
from lima.store.columns import IDENTITY
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS, ITEMS
from lima_k8s.web.annotate.database import Entry, Store
from lima_k8s.web.annotate.existing import rounds_folder, same_round
from lima_k8s.web.annotate.questions import columns

_LEDGER = {column.name for column in ITEMS.columns} - {column.name for column in IDENTITY}
LEDGER_COLUMNS = tuple(c.name for c in ANNOTATIONS.columns if c.name in _LEDGER)
"""Columns that `items` and `annotations` have in common: what was labelled, and how shown."""


def store_path(spec: EvaluationSpec, storage: Storage) -> Path:
    """Return where the store of a round lies: beside the tables, or here for an object store."""
    name = f"{spec.kind}-{evaluation_identity(spec)['run_id']}.sqlite"
    return rounds_folder(storage) / name


def open_round(spec: EvaluationSpec, storage: Storage, path: Path) -> Store:
    """Return the store of a round; the first time, its items are planned and written.

    A round that exists grows to what `spec` asks for: more prompts, or more items that everybody
    labels. What it has already it keeps.

    Raises:
        DataError: there is nothing to label.
        InputError: the file holds another round.

    """
    store = Store(path)
    held = store.settings().get("spec")
    if held is None:
        items = plan_items(spec, storage)
        store.fill(
            [entry(item) for item in items],
            spec=encode(spec),
            kind=spec.kind,
            pair=bool(spec.others),
            instruction_hash=instructions(spec.kind, pair=bool(spec.others)).hash,
        )
        write_items(spec, storage, items)
    elif not same_round(decode(EvaluationSpec, held), spec):
        raise InputError(f"{path}: holds another round; name another file with --database")
    _refuse_other_words(store)
    if held is not None:
        grow(store, storage, spec.count, spec.shared)
    return store


def grow(store: Store, storage: Storage, count: int | None, shared: int) -> int:
    """Add to a round what it lacks of `count` prompts (None: all) and of `shared` items.

    Its id, and the showings that it has, stay what they are: draws are nested. Items that are to
    be shown again were chosen when it began, and stay those.

    Returns:
        How many entries were added.

    """
    settings = store.settings()
    begun = decode(EvaluationSpec, settings["spec"])
    held, overlap = settings.get("count", begun.count), settings.get("overlap", begun.shared)
    more = held is not None and (count is None or count > held)
    if not more and shared <= overlap:
        return 0
    wanted, overlap = count if more else held, max(shared, overlap)
    entries = store.entries()
    known = {_showing(entry.row) for entry in entries}
    planned = plan_items(replace(begun, count=wanted, shared=overlap), storage)
    new = [
        i for i in planned if i.presentation <= begun.both_orders and _showing(i.row()) not in known
    ]
    items = [replace(i, position=p) for p, i in enumerate(new, start=len(entries))]
    every = [
        *((e.row["item_id"], e.position) for e in entries),
        *((i.item_id, i.position) for i in items),
    ]
    common = set(list(dict.fromkeys(item for item, _ in every))[:overlap])
    items = [replace(i, shared=i.item_id in common) for i in items]
    if items:  # first the ledger: killed in between, the same command does both again
        write_items(begun, storage, items, f"items-{len(entries):06d}-{len(every):06d}")
    store.extend(
        [entry(item) for item in items],
        [position for item, position in every if item in common],
        count=wanted,
        overlap=overlap,
    )
    return len(items)


def _showing(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["item_id"], row["presentation"]


def entry(item: Item) -> Entry:
    """Return an item as the store keeps it; of a pair of dialogues, what they have in common
    is the prompt.
    """
    ledger = item.row()
    row = {name: ledger[name] for name in LEDGER_COLUMNS}
    prompt, whole = item.first.prompt, item.kind == "dialogue" and item.second is not None
    if item.kind == "dialogue":
        row["conversation_id"] = conversation_id(item.first.source, prompt)
        row["turn"] = None if whole else turn_number(prompt)
    said = [((*r.prompt, r.text)[1 if whole else len(r.prompt) :]) for r in item.responses]
    return Entry(
        item.position,
        item.shared,
        shown={
            "prompt": _utterances(prompt[:1] if whole else prompt),
            "responses": [_utterances(utterances, 1) for utterances in said],
        },
        row=row,
    )


def export(store: Store, storage: Storage) -> dict[str, int]:
    """Write the events of every annotator as a shard; return how many, by annotator.

    A shard is written anew with what came since: it holds the events that it held before.
    """
    settings = store.settings()
    spec = decode(EvaluationSpec, settings["spec"])
    table = RunTable.of(storage, ANNOTATIONS, evaluation_identity(spec))
    by_rater: dict[str, list[dict[str, Any]]] = {}
    for event in store.events():
        by_rater.setdefault(event["rater"], []).append(event)
    for rater, events in by_rater.items():
        rows = _rows(events, settings["instruction_hash"])
        table.write(f"people-{rater}", rows, replace=True)
    return {rater: len(events) for rater, events in by_rater.items()}


def _rows(events: Sequence[dict[str, Any]], instruction_hash: str) -> list[dict[str, Any]]:
    written = now()
    return [
        {
            **{name: value for name, value in event.items() if name != "answers"},
            **columns(event["answers"]),
            "instruction_hash": instruction_hash,
            "written_at": written,
        }
        for event in events
    ]


def _utterances(texts: Sequence[str], first: int = 0) -> list[dict[str, str]]:
    """Return who said what; `first` 1: the assistant begins."""
    return [
        {"who": "assistant" if turn % 2 else "user", "text": text}
        for turn, text in enumerate(texts, start=first)
    ]


def _refuse_other_words(store: Store) -> None:
    """Refuse to go on under other instructions: the labels would not be of one kind."""
    settings = store.settings()
    asked = instructions(settings["kind"], pair=settings["pair"])
    if settings["instruction_hash"] != asked.hash:
        raise InputError(
            f"{store.path}: this round began under other instructions, of another version of "
            "lima-k8s; export it with that version and begin a new one (--seed)"
        )
