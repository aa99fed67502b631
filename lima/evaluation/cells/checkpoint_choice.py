"""Checkpoints: the perplexity of each beside the quality of its responses (appendix B)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lima.evaluation.cells.lines import CHECKPOINT, Series, series_of
from lima.evaluation.cells.measures import runs_of, summarise
from lima.evaluation.cells.settings import settings
from lima.evaluation.cells.study_data import Study
from lima.evaluation.statistics.correlation import RankCorrelation, rank_correlation
from lima.rating.selection import CHOICES, choice_path, read_choice
from lima.runs.lineage import Chain
from lima.spec import DataSpec
from lima.store.storage import Storage

Choices = Mapping[str, Mapping[str, Any]]
"""The choice of a checkpoint (see `read_choice`) by run of training."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was sampled from, or compared with others by people.

    Args:
        label: its series: its arm, with what tells it from the same arm under other settings.
        colour: place of the arm in the study.
        epoch: of the checkpoint.
        arm: its arm alone.
        heldout: what its perplexity is measured on; None: nothing.
        seeds: runs of training that are averaged.
        perplexity: held-out; None: not measured.
        score: mean of the scores; None: there are none.
        low: lower end of its interval; None: too few prompts.
        high: upper end.
        scored: scores.
        compared: comparisons by people, won, tied and lost; None: nobody compared it.
        chosen: runs of training of which it was chosen.

    """

    label: str
    colour: int
    epoch: int
    arm: str
    heldout: DataSpec | None = None
    seeds: int = 1
    perplexity: float | None = None
    score: float | None = None
    low: float | None = None
    high: float | None = None
    scored: int = 0
    compared: tuple[int, int, int] | None = None
    chosen: int = 0


def checkpoints_of(study: Study, choices: Choices) -> list[Checkpoint]:
    """Return the checkpoints of a study, by arm and epoch; seeds are averaged."""
    return [
        checkpoint
        for series in series_of(study.chains, "train")
        for checkpoint in _of_series(study, series, choices)
    ]


def pairs_of(checkpoints: Iterable[Checkpoint]) -> list[tuple[float, float]]:
    """Return perplexity and score of the checkpoints that have both."""
    return [
        (c.perplexity, c.score)
        for c in checkpoints
        if c.perplexity is not None and c.score is not None
    ]


def correlations(checkpoints: Sequence[Checkpoint]) -> dict[str, RankCorrelation]:
    """Return how perplexity and score go together, by label.

    Appendix B is about the steps of one training. Over several arms the sign may be another: a
    better arm has the lower perplexity and the higher scores, though in each both may rise.
    """
    labels = dict.fromkeys(c.label for c in checkpoints)
    return {
        label: rank_correlation(pairs_of(c for c in checkpoints if c.label == label))
        for label in labels
    }


def read_choices(storage: Storage) -> dict[str, dict[str, Any]]:
    """Return which checkpoints people chose.

    Raises:
        DataError: a file is damaged.

    """
    folder = f"{CHOICES}/run_id="
    paths = [entry.path for entry in storage.entries(CHOICES)]
    runs = [p.removeprefix(folder).removesuffix(".json") for p in paths if p.startswith(folder)]
    return {run: read_choice(storage, run) for run in runs if choice_path(run) in paths}


def _of_series(study: Study, series: Series, choices: Choices) -> list[Checkpoint]:
    sampled = _by_epoch(study, series.chains)
    trained = runs_of(series.chains, "train", dict(choices))
    compared = {c["epoch"] for run in trained for c in choices[run].get("compared", ())}
    heldout = series.chains[0].spec["train"].get("heldout")
    return [
        Checkpoint(
            label=series.label,
            colour=series.colour,
            epoch=epoch,
            arm=series.arm,
            heldout=_selection(heldout) if heldout else None,
            seeds=len({chain.seed for chain in sampled.get(epoch, series.chains)}),
            **_measured(study, sampled.get(epoch, ()), series.chains, epoch),
            **_judged(epoch, [choices[run] for run in trained]),
        )
        for epoch in sorted(sampled.keys() | compared)
    ]


def _selection(data: Mapping[str, Any]) -> DataSpec:
    """Return what names a stored selection of examples, whatever version has written it."""
    return DataSpec(data["path"], tuple(data.get("sources", ())), data.get("count"))


def _by_epoch(study: Study, chains: Iterable[Chain]) -> dict[int, list[Chain]]:
    """Return the cells that sampled from each epoch.

    Those that name none are left out where no perplexity was measured: they are no checkpoints
    that anyone set side by side.
    """
    groups: dict[int, list[Chain]] = {}
    for chain in chains:
        named = settings(chain, "generate").get(CHECKPOINT)
        measured = chain.runs.get("train") in study.perplexities
        epoch = chain.sampled_epoch if named or measured else None
        if epoch:
            groups.setdefault(epoch, []).append(chain)
    return groups


def _measured(
    study: Study, sampled: Sequence[Chain], chains: Sequence[Chain], epoch: int
) -> dict[str, Any]:
    row = summarise(study.results, sampled) if sampled else {}
    runs = runs_of(sampled or chains, "train", study.perplexities)
    at = [y for run in runs for x, y in study.perplexities[run] if x == epoch]
    return {
        "perplexity": sum(at) / len(at) if at else None,
        "score": row.get("score"),
        "low": row.get("ci_low"),
        "high": row.get("ci_high"),
        "scored": row.get("scored") or 0,
    }


def _judged(epoch: int, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how people compared an epoch, over the runs of training."""
    rows = [c for choice in choices for c in choice.get("compared", ()) if c["epoch"] == epoch]
    counts = [sum(row[name] for row in rows) for name in ("wins", "ties", "losses")]
    chosen = sum(choice["epoch"] == epoch for choice in choices)
    return {"compared": tuple(counts) if rows else None, "chosen": chosen}
