"""A study's report: one self-contained page with its figures, settings and some responses."""

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lima import __version__
from lima.common.paths import require_regular
from lima.errors import InputError
from lima.evaluation.aggregate.table import report_unreadable
from lima.evaluation.cells.checkpoint_choice import correlations
from lima.evaluation.cells.lines import readable
from lima.evaluation.cells.origins import input_rows, read_origins, unknown
from lima.evaluation.cells.origins import notes as origin_notes
from lima.evaluation.cells.study_data import read_study_data
from lima.evaluation.labels.contests import read_lengths
from lima.evaluation.paper.compare import read_evidence
from lima.evaluation.paper.numbers import written
from lima.evaluation.report.figures_of_labels import people_panels, people_tables
from lima.evaluation.report.figures_of_lengths import examples_panel, read_example_lengths
from lima.evaluation.report.figures_of_runs import Panel, panels
from lima.evaluation.report.sample_responses import read_samples
from lima.evaluation.report.tables import shown, study_tables
from lima.evaluation.statistics.correlation import RankCorrelation
from lima.rating.dialogues import STAGE as CHAT_STAGE
from lima.rating.raters import told_of_raters
from lima.runs.lineage import Chain, experiments
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import RUNS
from lima.store.values import STATUSES

if TYPE_CHECKING:
    import jinja2

TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class Report:
    """A page, and its figures by name; None where the data for one is missing."""

    page: str
    figures: Mapping[str, Panel | None]


def write_report(
    storage: Storage,
    output: Path,
    *,
    experiment: str | None = None,
    figures: Path | None = None,
    named: Mapping[str, str] | None = None,
    skip_unreadable: bool = False,
    note: Callable[[str], None],
) -> Report:
    """Write the report of a study, finished or still running; every file whole or not at all.

    Args:
        storage: the study.
        output: file to write; folders above it are made.
        experiment: which one, if storage holds several.
        figures: folder for each figure as SVG and as PNG; None: they are on the page alone.
        named: our arms that are the paper's whatever their specs say, by the paper's names.
        skip_unreadable: leave out shards that cannot be read, and say so, instead of raising.
        note: called with each message that the page says too.

    Raises:
        InputError: storage holds several experiments and none is named, or not the named one; or
            `named` names what is not there; or `output` is a link, a device or the like.
        DataError: nothing is there, or shards that cannot be read (all are named).
        StorageError: storage cannot be reached.
        OSError: a file cannot be written.

    """
    require_regular(output)  # before the work
    report = make_report(
        storage, experiment=experiment, named=named, skip_unreadable=skip_unreadable, note=note
    )
    _write(output, report.page.encode())
    for name, panel in report.figures.items():
        if figures and panel:
            words = readable(panel.alt)
            _write(figures / f"{name}.svg", panel.drawing.svg(words))
            _write(figures / f"{name}.png", panel.drawing.png(words))
    return report


def _write(path: Path, data: bytes) -> None:
    require_regular(path).parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def render_report(
    storage: Storage,
    *,
    experiment: str | None = None,
    named: Mapping[str, str] | None = None,
    skip_unreadable: bool = False,
    note: Callable[[str], None],
) -> str:
    """Return the page alone; arguments and errors are those of `write_report`."""
    return make_report(
        storage, experiment=experiment, named=named, skip_unreadable=skip_unreadable, note=note
    ).page


def make_report(
    storage: Storage,
    *,
    experiment: str | None = None,
    named: Mapping[str, str] | None = None,
    skip_unreadable: bool = False,
    note: Callable[[str], None],
) -> Report:
    """Return the page and its figures; arguments and errors are those of `write_report`."""
    tables = Tables(storage, experiment)
    study = read_study_data(tables)
    name = _only_experiment(tables, study.chains, experiment)
    samples = read_samples(tables, study.chains)
    evidence = read_evidence(tables, named or {}, study=study)
    theirs = {str(chain.arm): evidence.name_of(chain.arm) for chain in study.chains}
    drawn = {
        **panels(study, evidence.checkpoints, theirs),
        "examples": examples_panel(study.chains, read_example_lengths(tables, study.chains)),
        **people_panels(evidence),
    }
    of_labels = people_tables(evidence, read_lengths(tables, evidence.labelled.labels))
    origins = read_origins(tables)
    notes = origin_notes(origins, study.chains)
    notes += told_of_raters(evidence.labelled.labels)
    report_unreadable(tables, skip_unreadable, notes.append)
    for message in notes:
        note(message)
    page = _template().render(
        name=name,
        storage=storage.uri,
        version=__version__,
        written=datetime.now(UTC),
        notes=notes,
        panels=drawn,
        checkpoints=[c for c in evidence.checkpoints if c.scored or c.compared],
        correlations=_told(correlations(evidence.checkpoints)),
        samples=samples,
        failures=(*STATUSES[1:], "not_judged"),
        shown=shown,
        plain=written,
        finite=math.isfinite,
        inputs=input_rows(origins, study.chains),
        unknown_inputs=unknown(origins, study.chains),
        **of_labels,
        **study_tables(study, of_labels["pairs"]),
    )
    return Report(readable(page), drawn)


def _template() -> "jinja2.Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lima.evaluation.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE)


def _told(found: Mapping[str, RankCorrelation]) -> dict[str, RankCorrelation]:
    """Return the correlations that say something: two points always lie on a line."""
    return {label: c for label, c in found.items() if c.value is not None and c.points > 2}


def _only_experiment(tables: Tables, chains: Sequence[Chain], asked: str | None) -> str:
    """Return the experiment that the page is about; without cells, that of the labels."""
    names = sorted({chain.experiment for chain in chains})
    if not names and not tables.read(RUNS, ["run_id"]).num_rows:
        names = [asked] if asked else experiments(tables)
    names = names or _of_conversations(tables)
    if len(names) > 1:
        raise InputError(
            f"the storage holds {len(names)} experiments; choose one with --experiment: "
            f"{', '.join(names)}"
        )
    if not names:
        raise InputError("no cell of the study has started yet; try again when one has")
    return names[0]


def _of_conversations(tables: Tables) -> list[str]:
    rows = tables.read(RUNS, ["experiment", "stage"]).to_pylist()
    return sorted({row["experiment"] for row in rows if row["stage"] == CHAT_STAGE})
