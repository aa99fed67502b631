"""Checkpoint selection: epochs side by side on the development prompts (section 3, appendix B).

Perplexity does not show which epoch answers best, so people (or a judge) compare the epochs and
one of them is chosen. The choice is kept beside the study, with what it rests on:

STORAGE/choices/run_id=R.json, R the run of training
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lima.common.clock import now
from lima.errors import DataError, InputError
from lima.rating.items import EvaluationSpec, evaluation_identity, winner
from lima.rating.labels import standing
from lima.rating.responses import read_responses
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS

CHOICES = "choices"
_COLUMNS = ("annotation_id", "event", "supersedes", "label", "shown", "response_1", "response_2")


@dataclass(frozen=True)
class Standing:
    """How an epoch did against the others: comparisons won, tied and lost."""

    epoch: int
    wins: int
    ties: int
    losses: int

    @property
    def points(self) -> float | None:
        """Share of its comparisons that an epoch won, a tie counting half; None: there are none."""
        all_of_it = self.wins + self.ties + self.losses
        return (self.wins + self.ties / 2) / all_of_it if all_of_it else None


def compare_epochs(
    storage: Storage, spec: EvaluationSpec, epochs: Mapping[str, int]
) -> list[Standing]:
    """Return how each epoch did in the labels that storage holds, by epoch.

    Args:
        storage: Holds the responses and the labels.
        spec: The evaluation, of kind `checkpoint`.
        epochs: Epoch by run of generation.

    Raises:
        DataError: a run has no responses.

    """
    of_key = {
        response.key: epoch
        for run, epoch in epochs.items()
        for response in read_responses(storage, run).values()
    }
    table = RunTable.of(storage, ANNOTATIONS, evaluation_identity(spec))
    rows = standing(table.read(_COLUMNS).to_pylist())
    counts: dict[str, Counter[int]] = {"wins": Counter(), "ties": Counter(), "losses": Counter()}
    for row in rows:
        if row["label"] is not None:
            _count(counts, row, of_key[row["response_1"]], of_key[row["response_2"]])
    return [
        Standing(epoch, *(counts[name][epoch] for name in ("wins", "ties", "losses")))
        for epoch in sorted(epochs.values())
    ]


def choice_path(run: str) -> str:
    """Return where the choice for a run of training lies."""
    return f"{CHOICES}/run_id={run}.json"


def record_choice(
    storage: Storage, run: str, epoch: int, standings: Sequence[Standing], evaluation: str
) -> None:
    """Keep the choice of an epoch, with the comparisons that it rests on; a later one replaces it.

    Raises:
        InputError: the epoch is not one of those that were compared, or nobody has compared any.

    """
    if not any(found.wins or found.ties or found.losses for found in standings):
        raise InputError(
            "nobody has compared any epochs yet, so that there is no choice to record; label "
            "first, or name an epoch yourself with --set generate.model.epoch=EPOCH"
        )
    known = [found.epoch for found in standings]
    if epoch not in known:
        raise InputError(f"epoch {epoch} was not compared; epochs: {', '.join(map(str, known))}")
    document = {
        "epoch": epoch,
        "evaluation": evaluation,
        "compared": [{**asdict(found), "points": found.points} for found in standings],
        "at": now().isoformat(),
    }
    storage.write(choice_path(run), json.dumps(document, indent=1).encode(), replace=True)


def read_choice(storage: Storage, run: str) -> dict[str, Any]:
    """Return the choice for a run of training.

    Raises:
        DataError: none was made, or the file is damaged.

    """
    path = choice_path(run)
    if not storage.exists(path):
        raise DataError(
            f"{storage.uri}: no epoch of run {run} was chosen; choose one with "
            "`lima-k8s annotate STORAGE --kind checkpoint --choose EPOCH`"
        )
    try:
        choice: dict[str, Any] = json.loads(storage.read(path))
        int(choice["epoch"])
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{storage.uri}/{path}: damaged; choose the epoch again") from None
    return choice


def _count(counts: dict[str, Counter[int]], row: dict[str, Any], one: int, two: int) -> None:
    side = winner(row["label"], row["shown"])
    if side == "tie":
        counts["ties"].update((one, two))
        return
    better, worse = (one, two) if side == "1" else (two, one)
    counts["wins"][better] += 1
    counts["losses"][worse] += 1
