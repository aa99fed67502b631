"""Labels that are brought again, in part otherwise: the later word of a rater counts.

What was there stays in its shard, superseded, as after an undo in `annotate`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lima.rating.labels import standing
from lima.spec.codec import sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS

Row: TypeAlias = dict[str, Any]
SHOWING = ("rater", "item_id", "presentation", "shown")
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
    same rater on the same showing of the same item. One that says what counts is there already;
    so is an event of an export, whatever has corrected it since.

    Args:
        rows: labels of a file, as rows of `annotations`.
        named: ids of those whose ids the file tells.
        storage: where they are to go.
        experiment: the study that they are to belong to.
        run: that the file makes.

    Raises:
        StorageError: storage cannot be reached.

    """
    columns = ["run_id", "annotation_id", "supersedes", "imported_from", *SHOWING, *SAID]
    table = Tables(storage, experiment).read(ANNOTATIONS, columns).to_pylist()
    there = _There(row for row in table if row["run_id"] != run)
    found = [new for row in rows if (new := there.new(row, row["annotation_id"] in named))]
    before = {row["annotation_id"]: row["supersedes"] for row in table if row["run_id"] == run}
    for row in found:  # written before, when the rest of the table was another
        row["supersedes"] = before.get(row["annotation_id"], row["supersedes"])
    corrected = sum(row["supersedes"] is not None for row in found)
    return Brought(found, corrected, len({row["supersedes"] for row in table} & set(before)))


class _There:
    """The labels that a storage holds."""

    def __init__(self, rows: Iterable[Row]) -> None:
        listed = list(rows)
        self.by_id = {row["annotation_id"]: row for row in listed}
        later = [row for row in listed if row["supersedes"]]
        self.after = {row["supersedes"]: row["annotation_id"] for row in later}
        imported = [row for row in standing(listed) if row["imported_from"]]
        self.by_showing = {_of(row, SHOWING): row for row in imported}

    def new(self, row: Row, is_event: bool) -> Row | None:
        """Return a label with what it supersedes; None: nothing in it is new."""
        told = row["annotation_id"]
        if told in self.by_id:
            last = self._last(told)
            known = (last, self.by_id[told]) if is_event else (last,)
            if _of(row, SAID) in [_of(other, SAID) for other in known]:
                return None
            # A label may come back that was corrected before: it is another event.
            named = sha256_key([told, last["annotation_id"], *_of(row, SAID)])
            return {**row, "annotation_id": named, "supersedes": last["annotation_id"]}
        before = self.by_showing.get(_of(row, SHOWING))
        return {**row, "supersedes": before and before["annotation_id"]}

    def _last(self, name: str) -> Row:
        while name in self.after:
            name = self.after[name]
        return self.by_id[name]


def _of(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in names)
