"""`lima-k8s prune`."""

import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lima.errors import InputError
from lima_k8s.commands.options import format_option
from lima_k8s.terminal.output import say, write_json, write_table

if TYPE_CHECKING:
    from lima.prune import Removable
    from lima.store.storage import Storage

UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
TEMPORARY = "temporary"
KINDS = ("states", "checkpoints", "inputs", "leftovers", TEMPORARY)
ABANDONED_S = 3600
"""Age of a temporary folder: on a shared disk the lock of another machine may not be seen."""


@click.command("prune")
@click.argument("storage")
@click.option(
    "--older",
    metavar="AGE",
    help="Only what was written so long ago, as 30m, 12h, 7d or 2w.",
)
@click.option(
    "--only", "kinds", multiple=True, type=click.Choice(KINDS), help="Only this kind; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Show what can go, and remove nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@format_option("table", "json")
def command(
    *,
    storage: str,
    older: str | None,
    kinds: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    output_format: str,
) -> None:
    """Free what nothing in a storage needs any more.

    That is: states of runs that are complete; weights of epochs other than the one that was
    chosen; inputs that no run names, a week after they came; what killed jobs left, there and in
    this machine's temporary folders. Never what a running run or a result needs. Works on a
    cluster's storage from any machine that can read it.
    """
    from lima.prune import find, remove
    from lima.store.storage import Storage

    opened, before = Storage(storage), _before(older)
    wanted = kinds or KINDS
    found = find(opened, [kind for kind in wanted if kind != TEMPORARY], before)
    if not found and not _has_runs(opened):  # a mistyped one would seem to be clean
        say(f"{opened.uri}: there are no runs in it")
    folders = _temporary(before) if TEMPORARY in wanted else []
    if output_format == "table":
        _show([*found, *folders])
    removed: list[Removable] = []
    if (found or folders) and not dry_run:
        _confirm(yes)
        removed = [*remove(opened, found), *_remove_folders(folders)]
        say(f"freed {_bytes(sum(item.size for item in removed))} of {opened.uri}")
    if output_format == "json":
        write_json(
            {
                "storage": opened.uri,
                "items": [_as_json(item, item in removed) for item in [*found, *folders]],
                "freed_bytes": sum(item.size for item in removed),
            }
        )


def _has_runs(storage: "Storage") -> bool:
    from lima.store.scan import Tables
    from lima.store.tables import RUNS

    return Tables(storage).read(RUNS, ["run_id"]).num_rows > 0


def _before(older: str | None) -> int | None:
    """Return when something must have been written at the latest, in nanoseconds since 1970."""
    if older is None:
        return None
    told = re.fullmatch(r"(\d+)([mhdw])", older.strip())
    if not told:
        raise InputError(f"--older {older}: not an age; write 30m, 12h, 7d or 2w")
    return time.time_ns() - int(told[1]) * UNITS[told[2]] * 10**9


def _temporary(before: int | None) -> "list[Removable]":
    """Return folders of killed processes on this machine."""
    from lima.common.temporary import left_behind
    from lima.prune import Removable

    latest = time.time_ns() - ABANDONED_S * 10**9
    found = []
    for folder in left_behind():
        stats = [file.stat() for file in [folder, *folder.rglob("*")]]
        size, modified = sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats)
        if modified < min(latest, latest if before is None else before):
            why = "its process is gone"
            found.append(Removable(TEMPORARY, "", str(folder), why, size, modified))
    return found


def _remove_folders(folders: "Sequence[Removable]") -> "list[Removable]":
    for item in folders:
        shutil.rmtree(item.path)
    return list(folders)


def _show(items: "Sequence[Removable]") -> None:
    if not items:
        say("nothing can go")
        return
    write_table(
        ("KIND", "SIZE", "AGE", "WHY", "PATH"),
        [(i.kind, _bytes(i.size), _age(i.modified), i.why, i.path) for i in items],
    )
    say(f"in all: {_bytes(sum(item.size for item in items))}")


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("this asks before it removes, and nobody is there to answer; add --yes")
    click.confirm("Remove all of it?", abort=True, err=True)


def _bytes(size: int) -> str:
    """Return a size for people, in units of 1,000."""
    for factor, unit in SIZES:
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def _age(modified: int) -> str:
    if not modified:
        return "unknown"
    seconds = max(time.time_ns() - modified, 0) // 10**9
    for unit in ("d", "h", "m"):
        if seconds >= UNITS[unit]:
            return f"{seconds // UNITS[unit]}{unit}"
    return f"{seconds}s"


def _as_json(item: "Removable", removed: bool) -> dict[str, Any]:
    facts = asdict(item)
    del facts["first"], facts["upload"]
    return {**facts, "removed": removed}
