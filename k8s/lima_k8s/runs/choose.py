"""Which runs a text of a command line names."""

from collections.abc import Sequence

from lima.errors import InputError
from lima.spec.hints import closest
from lima_k8s.runs.model import Run

MIN_RUN_ID = 4
"""Digits of a run id that are enough to name a run."""
NONE = "there are no runs in this namespace; try -n NAMESPACE"


def choose(runs: Sequence[Run], text: str | None, none: str = NONE) -> list[Run]:
    """Return the runs that `text` names: a name, a run id or its beginning, or arm/seed.

    Args:
        runs: All that there are.
        text: None: all of them.
        none: What to say where there are no runs at all.

    Raises:
        InputError: it names none, or a beginning is that of several.

    """
    if text is None:
        return list(runs)
    exact = [r for r in runs if text in (r.name, r.run_id, f"{r.arm}/{r.seed}")]
    if exact:
        return exact
    begins = [
        r
        for r in runs
        if len(text) >= MIN_RUN_ID and (r.run_id.startswith(text) or r.name.startswith(text))
    ]
    if len(begins) == 1:
        return begins
    if begins:
        raise InputError(f"{text!r} begins {', '.join(r.name for r in begins)}; write more of it")
    if not runs:
        raise InputError(f"no run {text!r}: {none}")
    raise InputError(f"no run {text!r}; {closest(text, [r.name for r in runs], 'runs')}")


def choose_one(runs: Sequence[Run], text: str, none: str = NONE) -> Run:
    """Return the run that `text` names, as `choose` has it.

    Raises:
        InputError: it names none, or several: an arm of two studies, for one.

    """
    chosen = choose(runs, text, none)
    if len(chosen) != 1:
        names = ", ".join(run.name for run in chosen)
        raise InputError(f"{text!r} names {len(chosen)} runs: {names}; write the name of one")
    return chosen[0]
