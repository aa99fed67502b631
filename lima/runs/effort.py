"""What attempts at runs took: the one sum of GPU hours, of `status`, `aggregate` and reports.

An attempt that ended is charged for its seconds. One without an end is charged only where it is
said until when, as `status` says of a run that goes on. Results leave it out, so that they do not
depend on the moment in which they are asked for.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

HOUR = 3600.0


@dataclass(frozen=True)
class Effort:
    """The attempts at a run, how they ended, and their hours."""

    stage_starts: int = 0
    retries: int = 0
    """Starts of a stage after its first."""
    failed: int = 0
    interrupted: int = 0
    killed: int = 0
    open: int = 0
    gpu_hours: float = 0.0
    wall_hours: float = 0.0


def effort_of(rows: Sequence[Mapping[str, Any]], open_until: datetime | None = None) -> Effort:
    """Return what the attempts at some runs took.

    Args:
        rows: Of `attempts`, by their times.
        open_until: Until when attempts without an end are charged; None: they are not.

    """
    started = {row["attempt_id"]: row for row in rows if row["event"] == "started"}
    ends = [row for row in rows if row["event"] == "ended"]
    endless = started.keys() - {row["attempt_id"] for row in ends}
    running = int(bool(started) and [*started][-1] in endless)
    outcomes = [row["outcome"] for row in ends]
    lasted = [(_seconds(row["seconds"]), row["gpus"]) for row in ends]
    if open_until is not None:
        rest = [started[name] for name in endless]
        lasted += [((open_until - row["at"]).total_seconds(), row["gpus"]) for row in rest]
    return Effort(
        stage_starts=len(started),
        retries=len(started) - len({row.get("run_id") for row in started.values()}),
        failed=outcomes.count("failed"),
        interrupted=outcomes.count("interrupted"),
        # The next attempt writes the end of one that was killed, if it still can.
        killed=outcomes.count("killed") + len(endless) - running,
        open=running,
        gpu_hours=sum(max(seconds, 0.0) * gpus for seconds, gpus in lasted) / HOUR,
        wall_hours=sum(max(seconds, 0.0) for seconds, _ in lasted) / HOUR,
    )


def total_effort(efforts: Iterable[Effort]) -> Effort:
    """Return the sum of all fields."""
    listed = list(efforts)
    return Effort(**{f.name: sum(getattr(e, f.name) for e in listed) for f in fields(Effort)})


def waited_seconds(
    rows: Iterable[Mapping[str, Any]], submitted: datetime | None, start: datetime
) -> float | None:
    """Return how long a run waited until `start`: since its last attempt, or its submission.

    Args:
        rows: Of `attempts`, of all of its stages.
        submitted: None: it is not known.
        start: When its job began.

    """
    ends = [row["at"] for row in rows if row["event"] == "ended" and row["at"] <= start]
    since = max([*ends, *([submitted] if submitted else [])], default=None)
    return None if since is None else max((start - since).total_seconds(), 0.0)


def _seconds(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else 0.0
