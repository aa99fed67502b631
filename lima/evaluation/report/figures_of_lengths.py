"""How long the training examples of a study are, and what trimming took from them (section 3)."""

from collections import Counter
from collections.abc import Mapping, Sequence

from lima.data.trimming import Lengths, histogram
from lima.evaluation.cells.lines import series_of
from lima.evaluation.cells.measures import runs_of
from lima.evaluation.cells.study_data import Points
from lima.evaluation.report import chart_kinds as figures
from lima.evaluation.report.chart_kinds import Curve
from lima.evaluation.report.figures_of_runs import Panel
from lima.runs.lineage import Chain
from lima.store.scan import Tables
from lima.store.tables import RUNS


def read_example_lengths(tables: Tables, chains: Sequence[Chain]) -> dict[str, Lengths]:
    """Return the lengths of the examples of each run of training that has recorded them."""
    limits = {c.runs["train"]: _limits(c) for c in chains if "train" in c.runs}
    rows = tables.read(RUNS, ["run_id", "example_tokens"]).to_pylist()
    return {
        row["run_id"]: Lengths(tuple(row["example_tokens"]), *limits[row["run_id"]])
        for row in rows
        if row["example_tokens"] and row["run_id"] in limits
    }


def examples_panel(chains: Sequence[Chain], lengths: Mapping[str, Lengths]) -> Panel | None:
    """Draw the lengths of training examples by arm; None where they are not recorded.

    What the panel is about is what trimming took from each arm, in words.
    """
    found = [
        (s, lengths[runs[0]])
        for s in series_of(chains, "train")
        if (runs := list(runs_of(s.chains, "train", dict(lengths))))
    ]
    if not found:
        return None
    longest = max(max(of_arm.tokens) for _, of_arm in found)
    lines = [Curve(s.label, s.colour, _steps(of_arm, longest)) for s, of_arm in found]
    told = "; ".join(
        f"{s.label}: {of_arm if of_arm.trimmed else 'none is trimmed'}" for s, of_arm in found
    )
    drawing = figures.curves(lines, "tokens an example", "examples, %")
    return Panel(drawing, f"Lengths of training examples. {told}", about=told)


def _limits(chain: Chain) -> tuple[int, bool]:
    train = chain.spec["train"]
    return train["max_length"], train["text_format"] == "dialogue"


def _steps(lengths: Lengths, longest: int) -> Points:
    """Return the outline of a histogram, in per cent of the examples."""
    points = []
    for first, last, count in histogram(Counter(lengths.tokens), longest):
        share = 100 * count / len(lengths.tokens)
        points += [(float(first), share), (float(last + 1), share)]
    return [(points[0][0], 0.0), *points, (points[-1][0], 0.0)]
