"""Labels from elsewhere into the table `annotations`.

Two layouts of JSONL, plain or gzipped: votes of MT-bench (Zheng et al., 2023: `judge`, `model_a`,
`model_b`, `winner`, `question_id`, `turn`), and our own (see `Record`), which is also what
`annotate` exports.
"""

import codecs
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from lima.common.clock import now
from lima.common.encoding import not_bytewise, not_utf8, unpacked
from lima.errors import DataError
from lima.rating.importing_checks import NEW, New, refuse_other_groups, refuse_unknown
from lima.rating.instructions import A_BETTER, B_BETTER, INSTRUCTIONS, NEITHER, Kind
from lima.rating.labels import INCONSISTENT, LABELLED, SKIPPED, UNKNOWN_ORDER
from lima.rating.responses import item_id
from lima.spec.codec import RUN_ID_LENGTH, sha256_key
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS

Layout: TypeAlias = Literal["plain", "mtbench"]
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
Turn: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=10**6)]
"""1 is the first."""
ARM = "imported"
GROUPS = ("crowd", "author", "model")
MTBENCH_GROUPS = {"expert": "crowd", "author": "author", "gpt4": "model"}
"""Groups by the first part of a judge's name; MT-bench's experts were hired, as crowds are."""

_WINNERS = {
    "model_a": A_BETTER,
    "model_b": B_BETTER,
    "tie": NEITHER,
    "tie (inconsistent)": NEITHER,
}


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the plain layout; `label` is null for an item that could not be labelled."""

    kind: Kind
    rater: Name
    rater_group: str
    prompt: Name
    arm_1: Name
    label: str | None
    arm_2: Name | None = None
    response_1: str | None = None
    response_2: str | None = None
    shown: Literal["12", "21", "unknown"] = "unknown"
    turn: Turn | None = None
    conversation_id: str | None = None
    malicious: bool | None = None
    out_of_distribution: bool | None = None
    instruction_hash: str | None = None
    comment: str | None = None


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
    """What an import found: rows in the file, and whether they are new to the storage."""

    rows: int
    new: bool
    run_id: str


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
    rows = _rows(data, path, layout, groups, f"{path.name}@sha256:{digest}")
    if not rows:
        raise DataError(f"{path}: no labels in it")
    refuse_unknown(rows, storage, experiment, new=new, prompts=layout == "plain")
    refuse_other_groups(rows, str(path), storage, experiment)
    added = RunTable.of(storage, ANNOTATIONS, identity).write(f"imported-{digest[:8]}", rows)
    return Imported(len(rows), added, key[:RUN_ID_LENGTH])


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
    data: bytes, path: Path, layout: Layout, groups: Mapping[str, str], origin: str
) -> list[dict[str, Any]]:
    parse: Callable[[bytes], dict[str, Any]] = (
        _plain_row if layout == "plain" else lambda line: _vote_row(line, groups)
    )
    written, seen, rows = now(), Counter[tuple[str, str]](), []
    for number, row in _parsed(data, path, parse):
        showing = (row["rater"], row["item_id"])
        rows.append(
            {
                **row,
                "annotation_id": sha256_key([origin, number]),
                "presentation": seen[showing],
                "imported_from": origin,
                "written_at": written,
            }
        )
        seen[showing] += 1
    return rows


def _parsed(
    data: bytes, path: Path, parse: Callable[[bytes], dict[str, Any]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, parse(line)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise DataError(f"{path}:{number}: not a label ({not_utf8(line) or error})") from None


def _plain_row(line: bytes) -> dict[str, Any]:
    record = msgspec.json.decode(line, type=Record)
    if record.rater_group not in GROUPS:
        raise ValueError(
            f"rater_group {record.rater_group!r}: one of {', '.join(GROUPS)} is allowed"
        )
    allowed = INSTRUCTIONS[record.kind].labels
    pair = allowed == (A_BETTER, B_BETTER, NEITHER)
    if record.kind == "dialogue" and record.arm_2:
        allowed = INSTRUCTIONS["preference"].labels
    if record.label is not None and record.label not in allowed:
        raise ValueError(f"label {record.label!r}: one of {', '.join(allowed)} is allowed")
    if pair and not record.arm_2:
        raise ValueError(f"a {record.kind} label needs arm_2")
    if record.arm_2 and A_BETTER not in allowed:
        raise ValueError(f"a label of kind {record.kind} is of one response; leave out arm_2")
    first = record.response_1 or _name(record.prompt, record.arm_1, record.turn)
    second = record.arm_2 and (record.response_2 or _name(record.prompt, record.arm_2, record.turn))
    if first == second:
        raise ValueError("arm_1 and arm_2 are the same, and no two responses of it are told apart")
    fields = msgspec.structs.asdict(record)
    prompt = sha256_key([fields.pop("prompt")])
    return {
        **fields,
        "event": SKIPPED if record.label is None else LABELLED,
        "item_id": item_id(record.kind, prompt, [r for r in (first, second) if r]),
        "prompt_key": prompt,
        "response_1": first,
        "response_2": second,
    }


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
    first, second = (_name(question, model, None) for model in (vote.model_a, vote.model_b))
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


def _name(prompt: str, arm: str, turn: int | None) -> str:
    """Return the key of a response that is in no table."""
    return sha256_key(["imported", prompt, arm, turn])
