"""What is said of a run at its end: rows of `examples`, its summary, and its card."""

from collections.abc import Iterable, Sequence
from typing import Any

from lima.common.paths import is_here
from lima.curation.arms.assembly import Choice
from lima.curation.arms.draw import DrawnArm
from lima.curation.candidates.candidate import Candidate
from lima.curation.candidates.table import ShardRecord, losses, total
from lima.curation.card.data_set_card import Arm, dataset_card
from lima.curation.card.table1 import table1, token_counter
from lima.curation.sources.kinds import pools, pools_of, resolved
from lima.spec.curate import CurateSpec


def example_rows(arm: DrawnArm) -> Iterable[dict[str, Any]]:
    """Yield what an arm took and what it turned away, as rows of the table `examples`."""
    inherited = [name for name, _ in arm.inherited]
    for index, choice in enumerate(arm.choices):
        came_from = inherited[index] if index < len(inherited) else None
        yield {
            **_example(arm, choice.pool, choice.candidate),
            "line": index + 1,
            "inherited_from": came_from,
        }
    for rejection in arm.assembly.rejected:
        yield {
            **_example(arm, rejection.pool, rejection.candidate),
            "reason": rejection.objection.reason,
            "evidence": rejection.objection.evidence,
            "other_key": rejection.objection.other or None,
        }


def _example(arm: DrawnArm, pool: str, candidate: Candidate) -> dict[str, Any]:
    return {
        "data_set": arm.spec.name,
        "split": arm.spec.split,
        "candidate_key": candidate.key,
        "pool": pool,
        "category": candidate.category,
        "source": candidate.source,
        "source_id": candidate.source_id,
        "score": candidate.score,
        "conversation": candidate.conversation,
    }


def pool_summaries(records: Sequence[ShardRecord]) -> dict[str, Any]:
    """Return for each pool how many candidates there are, and what the filters dropped."""
    names = sorted({pool for record in records for pool in record.losses})
    return {pool: _pool_summary(records, pool) for pool in names}


def _pool_summary(records: Sequence[ShardRecord], pool: str) -> dict[str, Any]:
    found = losses(records, pool)
    return {
        "candidates": found.seen,
        "kept": sum(count.kept for count in total(records, pool).values()),
        "dropped": dict(sorted(found.dropped.items())),
        "dropped_by_one_filter_alone": dict(sorted(found.only.items())),
    }


def arm_summary(arm: DrawnArm) -> dict[str, Any]:
    """Return the counts of an arm, and what it lacks."""
    by_pool: dict[str, dict[str, int]] = {}
    for choice in arm.choices:
        categories = by_pool.setdefault(choice.pool, {})
        name = choice.candidate.category
        categories[name] = categories.get(name, 0) + 1
    return {
        "name": arm.spec.name,
        "split": arm.spec.split,
        "examples": len(arm.choices),
        "inherited": len(arm.inherited),
        "pools": {pool: dict(sorted(found.items())) for pool, found in by_pool.items()},
        "moved": [
            {"pool": pool, "category": category, "difference": difference}
            for pool, category, difference in arm.assembly.moved
        ],
        "turned_away": len(arm.assembly.rejected),
        "shortages": [str(shortage) for shortage in arm.assembly.shortages],
    }


def run_card(
    spec: CurateSpec,
    arms: Sequence[DrawnArm],
    records: Sequence[ShardRecord],
    *,
    experiment: str,
    run: str,
    damage: dict[str, Any],
) -> str:
    """Return the dataset card of a run, with table 1 beside the paper's.

    Raises:
        ModelError: the tokenizer cannot be loaded.

    """
    tokenizer = spec.assembly.tokenizer
    name = _file_or_name(tokenizer, spec) if tokenizer else ""
    once = {
        (arm.spec.split, choice.candidate.key): choice for arm in arms for choice in arm.choices
    }
    rows = table1(
        ((split, _kind(c, spec), c.candidate.conversation) for (split, _), c in once.items()),
        token_counter(name) if name else None,
    )
    return dataset_card(
        experiment,
        [Arm(arm.spec.name, arm.spec.split, arm.examples, arm.assembly) for arm in arms],
        run=run,
        rows=rows,
        tokenizer=tokenizer,
        pools={pool: losses(records, pool) for pool in pools(spec)},
        damage=damage,
    )


def _kind(choice: Choice, spec: CurateSpec) -> str:
    """Return what table 1 calls an example: its pool's kind, whatever name it was given.

    Examples that were made elsewhere, as the LIMA release, name their sources themselves.
    """
    known = {pools_of(s)[0]: s.kind for s in spec.sources if s.kind != "stackexchange"}
    kind = known.get(choice.pool, choice.pool)
    return choice.candidate.source if kind == "examples" else kind


def _file_or_name(tokenizer: str, spec: CurateSpec) -> str:
    """Return the path of a tokenizer's file or folder; of one that is not there, the hub's name."""
    path = resolved(tokenizer, spec)
    return path if "://" in path or is_here(path) else tokenizer
