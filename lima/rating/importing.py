"""Labels from elsewhere into the table `annotations`.

Two layouts of JSONL, plain or gzipped: votes of MT-bench (Zheng et al., 2023: `judge`, `model_a`,
`model_b`, `winner`, `question_id`, `turn`), and our own (see `lima.rating.plain_labels`), in which
what `annotate` exports is read too.
"""

import codecs
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from lima.common.clock import now
from lima.common.encoding import not_bytewise, unpacked
from lima.errors import DataError
from lima.rating.corrections import brought
from lima.rating.importing_checks import NEW, New, refuse_other_groups, refuse_unknown
from lima.rating.instructions import A_BETTER, B_BETTER, NEITHER
from lima.rating.labels import INCONSISTENT, LABELLED, UNKNOWN_ORDER
from lima.rating.plain_labels import GROUPS, Name, Turn, lines, plain_rows, response_name
from lima.rating.responses import item_id
from lima.spec.codec import RUN_ID_LENGTH, sha256_key
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS

Layout: TypeAlias = Literal["plain", "mtbench"]
ARM = "imported"
MTBENCH_GROUPS = {"expert": "crowd", "author": "author", "gpt4": "model"}
"""Groups by the first part of a judge's name; MT-bench's experts were hired, as crowds are."""

IDENTITY = (
    "kind",
    "rater",
    "rater_group",
    "item_id",
    "arm_1",
    "arm_2",
    "label",
    "shown",
    "turn",
    "comment",
)
"""Of a label that has no id: the same again in another file is the same label."""

_WINNERS = {
    "model_a": A_BETTER,
    "model_b": B_BETTER,
    "tie": NEITHER,
    "tie (inconsistent)": NEITHER,
}


class Vote(msgspec.Struct):
    """A vote of MT-bench. Which model was shown first is not told."""

    judge: Name
    model_a: Name
    model_b: Name
    winner: str
    question_id: int
    turn: Turn


@dataclass(frozen=True)
class Imported:
    """What an import found.

    Args:
        rows: labels in the file.
        new: whether they are new to the storage.
        run_id: of the labels.
        there: those of them that the storage had already, from this file or another.
        corrected: those of them that take the place of others (see `brought`).
        overruled: those of them that other files have corrected since.
        unmatched: those of responses that the storage does not hold.
        renamed: whether they were there under other names: of responses that came later.

    """

    rows: int
    new: bool
    run_id: str
    there: int = 0
    corrected: int = 0
    overruled: int = 0
    unmatched: int = 0
    renamed: bool = False


def import_labels(
    path: Path,
    storage: Storage,
    experiment: str,
    layout: Layout,
    groups: Mapping[str, str] = MTBENCH_GROUPS,
    *,
    new: Collection[New] = NEW,
) -> Imported:
    """Write the labels of a file as one shard; the same file again changes nothing.

    What it says otherwise than an earlier file corrects that (see `brought`).

    Args:
        path: JSONL, plain or gzipped.
        storage: where to.
        experiment: study that the labels belong to.
        layout: how its lines look.
        groups: for MT-bench: start of a judge's name to its group of raters.
        new: what the storage need not know already.

    Raises:
        InputError: the labels name what the storage does not know (see `refuse_unknown`), or a
            rater is of another group elsewhere.
        DataError: the file cannot be read, or a line is not a label; the message names it.
        StorageError: storage cannot be reached.

    """
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    key = sha256_key([experiment, layout, digest, dict(groups) if layout == "mtbench" else {}])
    identity = {
        "run_id": key[:RUN_ID_LENGTH],
        "spec_hash": key,
        "experiment": experiment,
        "arm": ARM,
        "seed": 0,
    }
    parsed = list(
        plain_rows(data, path, storage, experiment)
        if layout == "plain"
        else lines(data, path, partial(_vote_row, groups=groups))
    )
    told = _rows(parsed, experiment, f"{path.name}@sha256:{digest}")
    if not told:
        raise DataError(f"{path}: no labels in it")
    refuse_unknown(told, storage, experiment, new=new, prompts=layout == "plain")
    refuse_other_groups(told, str(path), storage, experiment)
    run = key[:RUN_ID_LENGTH]
    named = {row["annotation_id"] for _, row in parsed if row.get("annotation_id")}
    brings = brought(told, named, storage, experiment, run)
    rows = brings.rows
    unmatched = sum(row["unmatched"] for row in told) if layout == "plain" else 0
    table, shard = RunTable.of(storage, ANNOTATIONS, identity), f"imported-{digest[:8]}"
    added = bool(rows) and table.write(shard, rows)
    renamed = bool(rows) and not added and _items(table) != {row["item_id"] for row in rows}
    if renamed:
        table.write(shard, rows, replace=True)
    there = len(told) - len(rows) if added else len(told)
    corrected = brings.corrected if added else 0
    return Imported(len(told), added, run, there, corrected, brings.overruled, unmatched, renamed)


def _items(table: RunTable) -> set[str]:
    return {str(item) for item in table.read(("item_id",))["item_id"].to_pylist()}


def _read(path: Path) -> bytes:
    try:
        data = path.expanduser().read_bytes()
        data = unpacked(data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason})") from None
    if problem := not_bytewise(data):
        raise DataError(f"{path}: {problem}")
    return data.removeprefix(codecs.BOM_UTF8)


def _rows(
    parsed: Iterable[tuple[int, dict[str, Any]]], experiment: str, origin: str
) -> list[dict[str, Any]]:
    written, seen, said = now(), Counter[tuple[str, str]](), Counter[str]()
    rows = []
    for _, row in parsed:
        showing = (row["rater"], row["item_id"])
        words = sha256_key([experiment, *(row.get(name) for name in IDENTITY)])
        told = row.get("annotation_id") or sha256_key([words, said[words]])
        rows.append(
            {
                **row,
                "annotation_id": told,
                "presentation": seen[showing],
                "imported_from": origin,
                "written_at": written,
            }
        )
        seen[showing] += 1
        said[words] += 1
    return rows


def _vote_row(line: bytes, groups: Mapping[str, str]) -> dict[str, Any]:
    vote = msgspec.json.decode(line, type=Vote)
    if vote.winner not in _WINNERS:
        raise ValueError(f"winner {vote.winner!r}: one of {', '.join(_WINNERS)} is known")
    group = next((g for start, g in groups.items() if vote.judge.startswith(start)), None)
    if group not in GROUPS:
        raise ValueError(
            f"judge {vote.judge!r} is of no group; say which with --group START=GROUP, one of "
            f"{', '.join(GROUPS)}"
        )
    if vote.model_a == vote.model_b:
        raise ValueError("model_a and model_b are the same")
    question = f"mt_bench/{vote.question_id}/{vote.turn}"
    prompt = sha256_key([question])
    first, second = (response_name(question, model, None) for model in (vote.model_a, vote.model_b))
    return {
        "event": LABELLED,
        "kind": "preference",
        "item_id": item_id("preference", prompt, [first, second]),
        "rater": vote.judge,
        "rater_group": group,
        "label": _WINNERS[vote.winner],
        # With it, label A means response_1; where that stood on the page is not told.
        "shown": UNKNOWN_ORDER,
        "prompt_key": prompt,
        "response_1": first,
        "response_2": second,
        "arm_1": vote.model_a,
        "arm_2": vote.model_b,
        "comment": INCONSISTENT if INCONSISTENT in vote.winner else None,
    }
