"""Labels that are brought again, in part otherwise: the later word of a rater counts.

What was there stays in its shard, superseded, as after an undo in `annotate`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from lima.rating.labels import standing
from lima.spec.codec import sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS

Row: TypeAlias = dict[str, Any]
ITEM = ("rater", "item_id", "shown")
SHOWING = (*ITEM, "presentation")
SAID = ("event", "label", "malicious", "out_of_distribution", "comment")


@dataclass(frozen=True)
class Brought:
    """What a file of labels brings.

    Args:
        rows: its labels that no other file or round has brought, with what they supersede.
        corrected: how many of these take the place of others.
        overruled: labels of the same file, written before, that others have corrected since.

    """

    rows: list[Row]
    corrected: int
    overruled: int


def brought(
    rows: Sequence[Row], named: Collection[str], storage: Storage, experiment: str, run: str
) -> Brought:
    """Return what a file brings to a storage.

    A label corrects the one with its id, as an export tells it, or else an imported one of the
    same rater on the same item, shown as it was, which the file does not confirm. One that says
    what counts is there already; so is an event of an export, whatever has corrected it since.

    Args:
        rows: labels of a file, as rows of `annotations`.
        named: ids of those whose ids the file tells.
        storage: where they are to go.
        experiment: the study that they are to belong to.
        run: that the file makes.

    Raises:
        StorageError: storage cannot be reached.

    """
    columns = ["run_id", "annotation_id", "supersedes", "imported_from", "written_at"]
    table = Tables(storage, experiment).read(ANNOTATIONS, [*columns, *SHOWING, *SAID]).to_pylist()
    own = [row for row in table if row["run_id"] == run]
    # A file that is brought again corrects nothing that came after it.
    written = max((row["written_at"] for row in own), default=None)
    there = _There([row for row in table if row["run_id"] != run], written)
    others = [row for row in rows if not there.confirms(row, row["annotation_id"] in named)]
    found = [there.new(row) for row in others]
    before = {row["annotation_id"]: row["supersedes"] for row in own}
    for row in found:  # written before, when the rest of the table was another
        row["supersedes"] = before.get(row["annotation_id"], row["supersedes"])
    corrected = sum(row["supersedes"] is not None for row in found)
    return Brought(found, corrected, len({row["supersedes"] for row in table} & set(before)))


class _There:
    """The labels that a storage holds; those that a file says nothing of yet can be corrected."""

    def __init__(self, rows: Sequence[Row], written: datetime | None) -> None:
        self.by_id = {row["annotation_id"]: row for row in rows}
        later = [row for row in rows if row["supersedes"]]
        self.after = {row["supersedes"]: row["annotation_id"] for row in later}
        self.open: dict[tuple[Any, ...], list[Row]] = {}
        for row in sorted(standing(rows), key=lambda row: row["presentation"]):
            if row["imported_from"] and (written is None or row["written_at"] < written):
                self.open.setdefault(_of(row, ITEM), []).append(row)

    def confirms(self, row: Row, is_event: bool) -> bool:
        """Say whether a label is there already; what it confirms is not corrected any more."""
        told = row["annotation_id"]
        if told not in self.by_id:
            return False
        last = self._last(told)
        known = (last, self.by_id[told]) if is_event else (last,)
        confirmed = _of(row, SAID) in [_of(other, SAID) for other in known]
        self._close(last)
        return confirmed

    def new(self, row: Row) -> Row:
        """Return a label with what it supersedes."""
        told = row["annotation_id"]
        if told in self.by_id:
            # A label may come back that was corrected before: it is another event.
            last = self._last(told)["annotation_id"]
            named = sha256_key([told, last, *_of(row, SAID)])
            return {**row, "annotation_id": named, "supersedes": last}
        left = self.open.get(_of(row, ITEM), [])
        same = [other for other in left if other["presentation"] == row["presentation"]]
        before = next(iter([*same, *left]), None)
        if before:
            self._close(before)
        return {**row, "supersedes": before and before["annotation_id"]}

    def _close(self, row: Row) -> None:
        left = self.open.get(_of(row, ITEM), [])
        left[:] = [other for other in left if other["annotation_id"] != row["annotation_id"]]

    def _last(self, name: str) -> Row:
        while name in self.after:
            name = self.after[name]
        return self.by_id[name]


def _of(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in names)
