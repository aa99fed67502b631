"""`lima-k8s curate`."""

from typing import TYPE_CHECKING, Any

import click

from lima.errors import DataError
from lima_k8s.commands.options import format_option
from lima_k8s.commands.people.pick import command as pick
from lima_k8s.terminal.output import say, visible, write_json, write_table

if TYPE_CHECKING:
    from lima.curation.trace import CurationRun, Found

WIDTH = 78
"""Characters of a text that are shown."""


@click.group("curate")
def command() -> None:
    """Look at curated data: what is in it, why, and choose by hand."""


command.add_command(pick)


@command.command("show")
@click.argument("storage")
@click.option("--run", help="Id of the curation run, if the storage holds several.")
@format_option("table", "json")
def show(storage: str, run: str | None, output_format: str) -> None:
    """Counts of a curation run: data sets, pools, filters, damage.

    Works while the run goes on; before its end there are no data sets.
    """
    curation = _open(storage, run)
    document = _document(curation)
    if output_format == "json":
        write_json(document)
        return
    say(f"run {curation.run} of {curation.cell.experiment}")
    if document["data_sets"]:
        rows = [(d["path"], d["split"], d["examples"]) for d in document["data_sets"]]
        write_table(("data set", "split", "examples"), rows)
        click.echo()
    filters = [
        (pool, name, count, entry["alone"].get(name, 0))
        for pool, entry in document["pools"].items()
        for name, count in [("(kept)", entry["kept"]), *entry["dropped"].items()]
    ]
    write_table(("pool", "filter", "candidates", "by it alone"), filters)
    for kind, entry in document["damage"].items():
        say(f"damaged: {entry['count']} × {kind}")
        for place in entry["examples"]:
            say(f"  {place}")
    for line in document["notes"]:
        say(line)


@command.command("why")
@click.argument("storage")
@click.argument("name", metavar="ID")
@click.option("--run", help="Id of the curation run, if the storage holds several.")
@format_option("text", "json")
def why(storage: str, name: str, run: str | None, output_format: str) -> None:
    """Say why a text is in a data set or not.

    ID is the address of a Stack Exchange post (or SITE/POST), the source id of a candidate, or the
    first 8 or more digits of its key.
    """
    curation = _open(storage, run)
    found = curation.why(name)
    if not found:
        raise DataError(
            f"no candidate of run {curation.run} is, holds or passed over {name!r}; "
            "damaged rows are in `lima-k8s curate show`"
        )
    if output_format == "json":
        write_json({"found": [_plain(one) for one in found]})
        return
    for one in found:
        for line in _told(one):
            click.echo(visible(line))
        click.echo()


def _open(storage: str, run: str | None) -> "CurationRun":
    from lima.curation.trace import CurationRun
    from lima.store.storage import Storage

    return CurationRun(Storage(storage), run)


def _document(curation: "CurationRun") -> dict[str, Any]:
    from lima.curation.arms.undrawn import undrawn
    from lima.curation.candidates.table import losses, total
    from lima.curation.reading.damage import Damage

    records = curation.store.records()
    summary = curation.summary()
    pools = {}
    for pool in sorted({pool for record in records for pool in record.losses}):
        lost = losses(records, pool)
        pools[pool] = {
            "candidates": lost.seen,
            "kept": sum(count.kept for count in total(records, pool).values()),
            "dropped": dict(lost.dropped.most_common()),
            "alone": dict(lost.only),
        }
    damage = Damage().merge(record.damage for record in records).to_json()
    arms = summary["arms"] if summary else []
    folder = f"{curation.storage.uri.rstrip('/')}/datasets/run_id={curation.run}"
    return {
        "run": curation.run,
        "finished": summary is not None,
        "data_sets": [{**arm, "path": f"{folder}/{arm['name']}.jsonl"} for arm in arms],
        "pools": pools,
        "damage": summary["damage"] if summary else damage,
        "notes": [
            *(f"{arm['name']}: SHORT: {s}" for arm in arms for s in arm["shortages"]),
            *undrawn(records, curation.spec),
        ],
    }


def _told(found: "Found") -> list[str]:
    row = found.row
    text = row["conversation"][0] if row["conversation"] else "(no text)"
    lines = [f"{row['source']} {row['source_id']}  {' '.join(text.split())[:WIDTH]}"]
    if found.asked_as:
        scores = dict(entry.split(":") for entry in row["passed_over"])
        lines.append(
            f"  {found.asked_as} (score {scores[found.asked_as]}) is an answer to this question; "
            f"the top answer is {row['source_id'].partition('/')[2]}"
        )
    lines.append(f"  key {row['candidate_key'][:16]}  pool {row['pool']}  {row['url']}")
    measured = "  ".join(f"{name} {value:g}" for name, value in row["measures"])
    lines.append(f"  measured: {measured or 'nothing'}")
    dropped = ", ".join(row["reasons"])
    lines.append(f"  filters: {f'dropped by {dropped}' if dropped else 'passed all'}")
    for place in found.places:
        if place.line is not None:
            lines.append(f"  in {place.data_set} ({place.split}), line {place.line}")
        else:
            lines.append(f"  turned away from {place.data_set}: {place.reason}: {place.evidence}")
    lines += [f"  not drawn: {reason}" for reason in found.not_drawn]
    return lines


def _plain(found: "Found") -> dict[str, Any]:
    from dataclasses import asdict

    row = {name: value for name, value in found.row.items() if name != "created"}
    row["measures"] = dict(row["measures"])
    created = found.row["created"]
    return {
        **row,
        "created": created.isoformat() if created else None,
        "asked_as": found.asked_as or None,
        "places": [asdict(place) for place in found.places],
        "not_drawn": list(found.not_drawn),
    }
