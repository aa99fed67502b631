"""Every number of the paper beside ours."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lima.errors import InputError
from lima.evaluation.aggregate.table import report_unreadable
from lima.evaluation.agreement.tie_discounted import DRAWS
from lima.evaluation.cells.checkpoint_choice import checkpoints_of, read_choices
from lima.evaluation.cells.study_data import Study, read_study_data
from lima.evaluation.labels.label_shares import read_labelled
from lima.evaluation.paper.arms import BASELINES, recipe_cells
from lima.evaluation.paper.from_curation import read_curated
from lima.evaluation.paper.numbers import Compared, paper_facts
from lima.evaluation.paper.our_numbers import Evidence
from lima.evaluation.paper.registry import compared
from lima.evaluation.paper.used_settings import read_not_applied
from lima.rating.labels import read_labels
from lima.rating.raters import told_of_raters
from lima.runs.lineage import has_cells
from lima.store.scan import Tables
from lima.store.storage import Storage


def compare_paper(
    storage: Storage,
    *,
    experiment: str | None = None,
    named: Mapping[str, str] | None = None,
    tokenizer: str | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    skip_unreadable: bool = False,
    note: Callable[[str], None],
) -> list[Compared]:
    """Return every number of the paper beside ours, in the paper's order.

    Args:
        storage: the study, finished or still running; labels alone will do.
        experiment: only this one.
        named: our arms that are the paper's whatever their specs say, by the paper's names.
        tokenizer: what counts the tokens of table 1, as `curate.assembly.tokenizer`; None: what
            curation counted with, if it is on this machine.
        draws: of the bootstrap of agreement.
        seed: of the bootstrap.
        skip_unreadable: leave out shards that cannot be read, and say so, instead of raising.
        note: called with each message that a reader should see.

    Raises:
        InputError: `named` names what the paper does not know, or an arm that is not there.
        DataError: there is nothing to compare, or shards cannot be read.
        ModelError: the tokenizer cannot be loaded.
        StorageError: storage cannot be reached.

    """
    tables = Tables(storage, experiment)
    evidence = read_evidence(tables, named or {}, draws, seed, tokenizer=tokenizer)
    report_unreadable(tables, skip_unreadable, note)
    for message in (*_mixed(evidence), *told_of_raters(evidence.labelled.labels)):
        note(message)
    return compared(evidence)


def read_evidence(
    tables: Tables,
    named: Mapping[str, str],
    draws: int = DRAWS,
    seed: int = 0,
    *,
    study: Study | None = None,
    tokenizer: str | None = None,
) -> Evidence:
    """Read all that a comparison needs; `study` is what was read before, if it was.

    Raises:
        InputError: `named` names what the paper does not know, or an arm that is not there.
        DataError: there are neither runs nor labels.
        ModelError: the tokenizer cannot be loaded.

    """
    _refuse_unknown(named)
    labels = read_labels(tables)
    if study is None and (not labels or has_cells(tables)):  # imported labels may stand alone
        study = read_study_data(tables)
    measured = {str(fact.of[1]) for fact in paper_facts() if fact.of[0] == "tokens"}
    evidence = Evidence(
        read_labelled(tables, labels),
        study.chains if study else (),
        study.results if study else None,
        read_curated(tables, measured, tokenizer),
        checkpoints_of(study, read_choices(tables.storage)) if study else (),
        named,
        read_not_applied(tables, study.chains) if study else {},
        draws,
        seed,
    )
    _refuse_absent(named, evidence.arms())
    return evidence


def _refuse_unknown(named: Mapping[str, str]) -> None:
    known = (*recipe_cells(), *(name for name in BASELINES if name not in recipe_cells()))
    for name, arm in named.items():
        if name not in known:
            raise InputError(
                f"--as {arm}={name}: the paper has no such arm; it has {', '.join(known)}"
            )


def _refuse_absent(named: Mapping[str, str], ours: Sequence[str]) -> None:
    for name, arm in named.items():
        if arm not in ours:
            raise InputError(f"--as {arm}={name}: no arm is {arm!r}; there are {', '.join(ours)}")


def _mixed(evidence: Evidence) -> Iterator[str]:
    """Say which arms of several experiments are taken for one: the paper's own have one each."""
    places = {(chain.arm, chain.experiment) for chain in evidence.chains}
    for arm, count in Counter(arm for arm, _ in sorted(places)).items():
        if count > 1:
            where = ", ".join(sorted(name for a, name in places if a == arm))
            yield f"arm {arm} of {count} experiments ({where}) is taken as one; see --experiment"


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
