"""The tables of a report beside its figures: arms, settings, effort, runs, versions."""

from collections.abc import Sequence
from typing import Any

from lima.evaluation.aggregate.columns import MEASURES
from lima.evaluation.cells.lines import Judging, Series, arms_of, judges_of, series_of
from lima.evaluation.cells.measures import (
    OWN_STAGES,
    Results,
    runs_of,
    summarise,
)
from lima.evaluation.cells.settings import known_settings, settings
from lima.evaluation.cells.study_data import Study
from lima.evaluation.labels.contests import OUTCOMES, PEOPLE
from lima.runs.effort import Effort, total_effort
from lima.runs.lineage import Chain
from lima.spec import STAGES, Stage

NOTHING = dict.fromkeys(column.name for column in MEASURES)
SHOWN_VALUES = 6
"""Different values of a setting that its row lists before it only counts them."""


def study_tables(study: Study, pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the page's template knows of a study, by the names that it uses.

    Args:
        study: as read from storage.
        pairs: the pairs of arms that were compared.

    """
    return {
        "facts": _facts(study),
        "rows": _summary(study, pairs),
        "judges": [judging.label for judging in judges_of(study.chains)],
        "judged": _judged(study),
        "varied": _varied(study.chains),
        "effort": _effort(study),
        "methods": _methods(study.chains),
        "cells": _cells(study),
        "versions": _versions(study.chains),
    }


def _facts(study: Study) -> dict[str, Any]:
    whole = summarise(study.results, study.chains)
    finished = sum(_is_finished(study.results, chain) for chain in study.chains)
    return {
        **NOTHING,
        **whole,
        "arms": len(arms_of(study.chains)),
        "seeds": len({chain.seed for chain in study.chains}),
        "cells": len(study.chains),
        "finished": finished,
        "models": _models(study.chains),
        "prompts_from": _values(study.chains, "generate", "prompts.path"),
        "judges": sorted(_values([c for c in study.chains if not c.compares], "judge", "model")),
        "same_prompts": not any(p.startswith("generate.prompts") for p in _varied(study.chains)),
    }


def _values(chains: Sequence[Chain], stage: Stage, path: str) -> list[str]:
    found = [settings(chain, stage).get(f"{stage}.{path}") for chain in chains]
    return list(dict.fromkeys(str(value) for value in found if value is not None))


def _models(chains: Sequence[Chain]) -> list[str]:
    """Return what was fine-tuned, in words."""
    names, data = _values(chains, "train", "model.path"), _values(chains, "base", "data.path")
    made = f"a base model made from {' and '.join(data)}"
    return [made if name == "run:base" and data else name for name in names]


def _summary(study: Study, pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the measures of each arm, over its seeds; judges stand side by side."""
    rows = []
    for series in _arms(study.chains):
        measures = summarise(study.results, series.chains)
        seeds = len({chain.seed for chain in series.chains})
        named = {"label": series.label, "colour": series.colour, "seeds": seeds}
        scores = [_by_judge(study, series, judging) for judging in judges_of(study.chains)]
        compared = _compared(series.arm, pairs)
        rows.append({**named, **NOTHING, **measures, "scores": scores, "compared": compared})
    return rows


def _arms(chains: Sequence[Chain]) -> list[Series]:
    """Return the series of a study, whoever judged them."""
    return series_of(chains, last="generate")


def _by_judge(study: Study, series: Series, judging: Judging) -> dict[str, Any]:
    """Return the measures of an arm by one judge."""
    mine = [chain for chain in series.chains if chain in judging.chains]
    return {**NOTHING, **summarise(study.results, mine)} if mine else dict(NOTHING)


def _compared(arm: str, pairs: Sequence[dict[str, Any]]) -> tuple[int, int, int] | None:
    """Return how often an arm won, tied and lost against its baselines by judges; None: never."""
    mine = [p for p in pairs if p["arm"] == arm and p["raters"] != PEOPLE and p["pairs"]]
    counts = [sum(round(p[outcome] * p["pairs"]) for p in mine) for outcome in OUTCOMES]
    return (counts[0], counts[1], counts[2]) if mine else None


def _judged(study: Study) -> list[dict[str, Any]]:
    """Return what became of the judgments of each arm, by each judge."""
    rows = []
    for series in _arms(study.chains):
        for judging in judges_of(study.chains):
            row = _by_judge(study, series, judging)
            if row["judged"] is not None:
                by = f" ({judging.label})" if judging.label else ""
                rows.append({**row, "label": f"{series.label}{by}", "colour": series.colour})
    return rows


def _varied(chains: Sequence[Chain]) -> dict[str, dict[str, str]]:
    """Return what arms differ in: each setting, with the value of each series in words.

    A cell that has not reached a stage says nothing about its settings.
    """
    rows: dict[str, dict[str, str]] = {}
    for series in _arms(chains):
        for stage in STAGES:
            flats = [f for c in series.chains if (f := settings(c, stage))]
            for path in dict.fromkeys(path for flat in flats for path in flat):
                values = dict.fromkeys(shown(f[path]) for f in flats if path in f)
                rows.setdefault(path, {})[series.label] = "; ".join(sorted(values))
    return {path: row for path, row in rows.items() if len(set(row.values())) > 1}


def _methods(chains: Sequence[Chain]) -> dict[Stage, list[dict[str, Any]]]:
    """Return all settings of each stage, with what they mean."""
    known = known_settings()
    found: dict[Stage, list[dict[str, Any]]] = {}
    for stage in STAGES:
        flats = [f for c in chains if (f := settings(c, stage, operational=True))]
        for path in dict.fromkeys(path for flat in flats for path in flat):
            values = list(dict.fromkeys(shown(f[path]) for f in flats if path in f))
            text = "; ".join(values[:SHOWN_VALUES])
            more = f"; {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
            meaning = known[path].description if path in known else ""
            found.setdefault(stage, []).append(
                {"path": path, "value": text + more, "varies": len(values) > 1, "meaning": meaning}
            )
    return found


def shown(value: Any) -> str:
    """Return a value of a setting as people read it."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _effort(study: Study) -> list[dict[str, Any]]:
    """Return the attempts and hours of each stage, the shared base model included."""
    rows = []
    for stage in STAGES:
        runs = runs_of(study.chains, stage, study.results.efforts)
        if runs:
            effort = total_effort(study.results.efforts[run] for run in runs)
            row = {"stage": stage, "runs": len(runs), **vars(effort)}
            rows.append({**row, "completed": _completed(effort)})
    return rows


def _completed(effort: Effort) -> int:
    ended_badly = effort.failed + effort.interrupted + effort.killed
    return effort.stage_starts - ended_badly - effort.open


def _is_finished(results: Results, chain: Chain) -> bool:
    return all(_state(results, chain, stage) == "finished" for stage in chain.runs)


def _state(results: Results, chain: Chain, stage: Stage) -> str:
    effort = results.efforts.get(chain.runs[stage], Effort())
    if _completed(effort):
        return "finished"
    return "running or killed" if effort.open else "stopped" if effort.stage_starts else "begun"


def _cells(study: Study) -> list[dict[str, Any]]:
    """Return the runs of each cell, and how far they are."""
    arms = arms_of(study.chains)
    return [
        {
            "arm": chain.arm,
            "seed": chain.seed,
            "runs": {
                stage: f"{chain.runs[stage]} {_state(study.results, chain, stage)}"
                for stage in OWN_STAGES
                if stage in chain.runs
            },
        }
        for chain in sorted(study.chains, key=lambda c: (arms.index(c.arm), c.seed))
    ]


def _versions(chains: Sequence[Chain]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for chain in chains:
        for name, version in chain.versions.items():
            found.setdefault(name, set()).add(str(version))
    return {name: " and ".join(sorted(versions)) for name, versions in sorted(found.items())}
