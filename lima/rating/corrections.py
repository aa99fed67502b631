"""Labels that are brought again, in part otherwise: the later word of a rater counts.

What was there stays in its shard, superseded, as after an undo in `annotate`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from lima.rating.labels import standing
from lima.spec.codec import sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS

Row: TypeAlias = dict[str, Any]
SHOWING = ("rater", "item_id", "presentation", "shown")
SAID = ("event", "label", "malicious", "out_of_distribution", "comment")


def unknown_labels(
    rows: Sequence[Row], storage: Storage, experiment: str, run: str
) -> tuple[list[Row], int]:
    """Return the labels that no other file or round has brought, and how many correct another.

    A label corrects the one with its id, as an export tells it, or else an imported one of the
    same rater on the same showing of the same item. One that says the same is there already.

    Args:
        rows: labels of a file, as rows of `annotations`.
        storage: where they are to go.
        experiment: the study that they are to belong to.
        run: that the file makes.

    Raises:
        StorageError: storage cannot be reached.

    """
    columns = ["run_id", "annotation_id", "supersedes", "imported_from", *SHOWING, *SAID]
    table = Tables(storage, experiment).read(ANNOTATIONS, columns).to_pylist()
    there = _There(row for row in table if row["run_id"] != run)
    found = [new for row in rows if (new := there.new(row))]
    before = {row["annotation_id"]: row["supersedes"] for row in table if row["run_id"] == run}
    for row in found:  # written before, when the rest of the table was another
        row["supersedes"] = before.get(row["annotation_id"], row["supersedes"])
    return found, sum(row["supersedes"] is not None for row in found)


class _There:
    """The labels that a storage holds."""

    def __init__(self, rows: Iterable[Row]) -> None:
        listed = list(rows)
        self.by_id = {row["annotation_id"]: row for row in listed}
        later = [row for row in listed if row["supersedes"]]
        self.after = {row["supersedes"]: row["annotation_id"] for row in later}
        imported = [row for row in standing(listed) if row["imported_from"]]
        self.by_showing = {_of(row, SHOWING): row for row in imported}

    def new(self, row: Row) -> Row | None:
        """Return a label with what it supersedes; None: nothing in it is new."""
        told = row["annotation_id"]
        if told in self.by_id:
            last = self._last(told)
            if _of(row, SAID) in (_of(last, SAID), _of(self.by_id[told], SAID)):
                return None
            named = sha256_key([told, *_of(row, SAID)])
            return {**row, "annotation_id": named, "supersedes": last["annotation_id"]}
        before = self.by_showing.get(_of(row, SHOWING))
        return {**row, "supersedes": before and before["annotation_id"]}

    def _last(self, name: str) -> Row:
        while name in self.after:
            name = self.after[name]
        return self.by_id[name]


def _of(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in names)
