"""Our own layout of labels: a record a line, or what `annotate` exports, a file of Parquet."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec

from lima.common.encoding import not_utf8
from lima.common.parquet_rows import PARQUET, parquet_rows
from lima.errors import DataError
from lima.rating.instructions import A_BETTER, B_BETTER, INSTRUCTIONS, NEITHER, Kind
from lima.rating.labels import LABELLED, SKIPPED, standing
from lima.rating.naming import Named, Responses, Wanted, read_named
from lima.rating.responses import item_id
from lima.runs.lineage import experiments
from lima.spec.codec import sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage

T = TypeVar("T")
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
Turn: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=10**6)]
"""1 is the first."""
Sample: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=10**6)]
"""0 is the first response to a prompt."""
GROUPS = ("crowd", "author", "model")
OF_RESPONSES = ("prompt", "run_1", "run_2", "sample")
"""What a record says of responses beside their keys."""


class Record(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the plain layout; `label` is null for an item that could not be labelled."""

    kind: Kind
    rater: Name
    rater_group: str
    arm_1: Name
    label: str | None
    prompt: Name | None = None
    prompt_key: Name | None = None
    arm_2: Name | None = None
    run_1: str | None = None
    run_2: str | None = None
    sample: Sample = 0
    response_1: str | None = None
    response_2: str | None = None
    shown: Literal["12", "21", "unknown"] = "unknown"
    turn: Turn | None = None
    conversation_id: str | None = None
    malicious: bool | None = None
    out_of_distribution: bool | None = None
    instruction_hash: str | None = None
    comment: str | None = None
    annotation_id: Name | None = None
    """Of the label, where it has one: `annotate --export` writes it."""


def plain_rows(
    data: bytes, path: Path, storage: Storage, experiment: str
) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows of the plain layout, by the number of their lines."""
    records = list(
        _exported(data, path) if data.startswith(PARQUET) else lines(data, path, _record)
    )
    responses = _responses([record for _, record in records], storage, experiment)
    rows = []
    for number, record in records:
        with named_line(path, number):
            rows.append((number, _plain_row(record, responses)))
    return rows


def _record(line: bytes) -> Record:
    return msgspec.json.decode(line, type=Record)


def _exported(data: bytes, path: Path) -> Iterator[tuple[int, Record]]:
    """Read a shard of `annotations`: the last word of each rater on each showing."""
    try:
        standing_rows = sorted(
            standing(parquet_rows(data, str(path))), key=lambda row: row["presentation"]
        )
    except (KeyError, TypeError) as error:  # a column is absent, or has nulls
        raise DataError(f"{path}: not a file of the table annotations ({error})") from None
    names = set(Record.__struct_fields__)
    for number, row in enumerate(standing_rows, 1):
        with named_line(path, number):
            told = {name: value for name, value in row.items() if name in names}
            yield number, msgspec.convert(told, Record)


def _responses(records: Sequence[Record], storage: Storage, experiment: str) -> Responses:
    """Return the responses that labels may be about; of a study that is new there are none."""
    tables = Tables(storage, experiment)
    if experiment not in experiments(tables):
        return Responses((), experiment)
    told = {(r.arm_1, r.arm_2, r.prompt, r.prompt_key, r.response_1, r.response_2) for r in records}
    arms, prompts, keys = (
        {value for row in told for value in row[start : start + 2] if value} for start in (0, 2, 4)
    )
    return read_named(tables, experiment, arms, prompts, keys)


def _plain_row(record: Record, responses: Responses) -> dict[str, Any]:
    _check(record)
    whole = record.kind == "dialogue" and record.arm_2 is not None and record.turn is None
    sides = [_side(record, side, responses, whole=whole) for side in (1, 2)]
    found = [named for _, named in sides if named]
    (first, _), (second, _) = sides
    if first == second:
        raise ValueError("arm_1 and arm_2 are the same, and no two responses of it are told apart")
    if not whole and record.turn is None:
        _refuse_two_prompts(found)
    prompt = record.prompt_key or sha256_key([record.prompt])
    if found and not (whole or record.prompt_key):
        prompt = found[0].prompt_key
    fields = msgspec.structs.asdict(record)
    if found and record.kind == "dialogue":
        fields["conversation_id"] = found[0].conversation_id
    return {
        **{name: fields[name] for name in fields if name not in OF_RESPONSES},
        "event": SKIPPED if record.label is None else LABELLED,
        "item_id": item_id(record.kind, prompt, [key for key in (first, second) if key]),
        "prompt_key": prompt,
        "response_1": first,
        "response_2": second,
        "unmatched": len(found) < 1 + (record.arm_2 is not None),
    }


def _refuse_two_prompts(found: Sequence[Named]) -> None:
    """Refuse responses to a text alone and in a conversation that began with it as a pair."""
    if len({named.prompt_key for named in found}) > 1:
        told = " and ".join(f"turn {named.turn} by {named.arm!r}" for named in found)
        raise ValueError(
            f"the responses are not to one prompt ({told} of what begins so); tell prompt_key in "
            "the place of prompt, or keys of responses to one, or, where turns of conversations "
            "were compared, the turn"
        )


def _check(record: Record) -> None:
    if record.rater != record.rater.strip():
        raise ValueError(f"rater {record.rater!r}: blanks around it would make it another rater")
    if record.rater_group not in GROUPS:
        raise ValueError(
            f"rater_group {record.rater_group!r}: one of {', '.join(GROUPS)} is allowed"
        )
    if not (record.prompt or record.prompt_key):
        raise ValueError("tell the prompt, its whole text")
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


def _side(
    record: Record, side: int, responses: Responses, *, whole: bool
) -> tuple[str | None, Named | None]:
    """Return the key of a response that a label is about, and what the storage holds of it."""
    arm, told, run = (
        (record.arm_1, record.response_1, record.run_1)
        if side == 1
        else (record.arm_2, record.response_2, record.run_2)
    )
    if arm is None:
        return None, None
    if told:
        found = responses.by_key.get(told)
        if found and found.arm != arm:
            raise ValueError(f"response_{side} is of arm {found.arm!r}, not of {arm!r}")
        return told, found
    wanted = Wanted(
        arm,
        record.prompt,
        record.prompt_key,
        record.kind == "dialogue",
        whole,
        record.turn,
        record.conversation_id,
        run,
        record.sample,
    )
    found = responses.find(wanted, side)
    if found:
        return found.key, found
    return response_name(record.prompt or record.prompt_key or "", arm, record.turn), None


def lines(data: bytes, path: Path, parse: Callable[[bytes], T]) -> Iterator[tuple[int, T]]:
    """Yield what the lines of a file hold, by their numbers, without the empty ones."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        with named_line(path, number, line):
            yield number, parse(line)


@contextlib.contextmanager
def named_line(path: Path, number: int, line: bytes = b"") -> Iterator[None]:
    """Say of which line it is that it cannot be used.

    Raises:
        DataError: it cannot.

    """
    try:
        yield
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}:{number}: not a label ({not_utf8(line) or error})") from None


def response_name(prompt: str, arm: str, turn: int | None) -> str:
    """Return the key of a response that is in no table."""
    return sha256_key(["imported", prompt, arm, turn])
