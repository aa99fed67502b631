"""Every number of the paper beside ours."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from lima.errors import InputError
from lima.evaluation.aggregate import report_unreadable
from lima.evaluation.agreement import DRAWS
from lima.evaluation.correlation import checkpoints_of
from lima.evaluation.evidence import Evidence
from lima.evaluation.labels import read_labels
from lima.evaluation.paper import Compared, judge_fact, paper_facts
from lima.evaluation.rates import read_labelled
from lima.evaluation.scan import Tables
from lima.evaluation.study import Study, read_study
from lima.results import EXAMPLES, RUNS
from lima.storage import Storage

_EXAMPLE = ["run_id", "data_set", "pool", "category", "line"]


def compare_paper(
    storage: Storage,
    *,
    experiment: str | None = None,
    named: Mapping[str, str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    skip_unreadable: bool = False,
    note: Callable[[str], None],
) -> list[Compared]:
    """Return every number of the paper beside ours, in the paper's order.

    Args:
        storage: the study, finished or still running; labels alone will do.
        experiment: only this one.
        named: our names of the paper's arms, where they cannot be guessed.
        draws: of the bootstrap of agreement.
        seed: of the bootstrap.
        skip_unreadable: leave out shards that cannot be read, and say so, instead of raising.
        note: called with each message that a reader should see.

    Raises:
        InputError: `named` names what the paper does not know.
        DataError: there is nothing to compare, or shards cannot be read.
        StorageError: storage cannot be reached.

    """
    _refuse_unknown(named or {})
    tables = Tables(storage, experiment)
    evidence = read_evidence(tables, named or {}, draws, seed)
    report_unreadable(tables, skip_unreadable, note)
    return [judge_fact(fact, evidence.of(fact)) for fact in paper_facts()]


def read_evidence(
    tables: Tables,
    named: Mapping[str, str],
    draws: int = DRAWS,
    seed: int = 0,
    study: Study | None = None,
) -> Evidence:
    """Read all that a comparison needs; `study` is what was read before, if it was.

    Raises:
        DataError: there are neither runs nor labels.

    """
    labels = read_labels(tables)
    study = study or _study(tables, wanted=not labels)
    return Evidence(
        read_labelled(tables, labels),
        study.chains if study else (),
        study.results if study else None,
        tables.read(EXAMPLES, _EXAMPLE).to_pylist(),
        checkpoints_of(study, study.chains) if study else (),
        _curations(tables),
        named,
        draws,
        seed,
    )


def _study(tables: Tables, *, wanted: bool) -> Study | None:
    """Return the runs; labels that were imported may stand alone."""
    if not wanted and not tables.read(RUNS, ["run_id"]).num_rows:
        return None
    return read_study(tables)


def _curations(tables: Tables) -> list[dict[str, Any]]:
    """Return the specs of curation; it is a run of its own, and no cell of a study."""
    rows = tables.read(RUNS, ["stage", "spec"]).to_pylist()
    return [json.loads(row["spec"]) for row in rows if row["stage"] == "curate"]


def _refuse_unknown(named: Mapping[str, str]) -> None:
    known = {part for fact in paper_facts() for part in fact.of[1:] if isinstance(part, str)}
    for name in named:
        if name not in known | {"lima"}:
            raise InputError(f"--arm {name}: the paper has no such arm")


def as_row(compared: Compared) -> dict[str, Any]:
    """Return a comparison as plain values."""
    fact, ours = compared.fact, compared.ours
    return {
        "fact": fact.name,
        "section": fact.section,
        "source": fact.mark,
        "paper": fact.value,
        "paper_to": fact.to,
        "paper_n": fact.n,
        "status": compared.status,
        **(vars(ours) if ours else dict.fromkeys(_OURS)),
        "rows_needed": compared.rows_needed,
        "why": compared.why,
    }


_OURS = ("value", "low", "high", "method", "n", "missing", "bound_low", "bound_high")
