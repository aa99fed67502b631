"""`lima-k8s annotate`."""

from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from lima.errors import InputError
from lima_k8s.commands.options import format_option
from lima_k8s.commands.people.annotate_options import annotate_options
from lima_k8s.terminal.output import say, write_json, write_table

if TYPE_CHECKING:
    from lima.rating.items import EvaluationSpec
    from lima.store.storage import Storage
    from lima_k8s.web.annotate.database import Store
    from lima_k8s.web.annotate.serve import Place

COMPARED = {"preference": (True,), "dialogue": (False, True)}
"""Kinds that may name another side, or must."""
ALONE = "me"
"""Who labels if nobody is invited: whoever started the command."""


@click.command("annotate")
@click.argument("storage")
@annotate_options
@format_option("table", "json")
def command(
    *, storage: str, what: str | None, choose: int | None, output_format: str, **options: Any
) -> None:
    """Have people label responses, on a page in their browsers.

    Every label is on disk before it is answered; end with Ctrl-C, which writes the table
    `annotations`, and start the same command again to go on. Without --invite, you label. A
    larger --count or --overlap adds to the round and keeps its labels. --status, --export,
    --withdraw and --choose begin none: they find the round that exists, by as much as is said.
    """
    from lima.store.storage import Storage
    from lima_k8s.web.annotate.opening import begun, existing, spec_of
    from lima_k8s.web.annotate.rounds import export

    opened = Storage(storage)
    if what == "chosen":
        _write_chosen(opened, _asked(opened, options), output_format)
        return
    closing = bool(options["withdrawn"]) and not options["invited"]
    instead = what or choose is not None or closing
    if instead and not options["invited"]:
        unchanged = what == "status" and not options["withdrawn"]
        store = existing(opened, options, reading=unchanged)
    else:  # who is invited is invited to something
        store = begun(opened, _asked(opened, options).spec, options)
    try:
        _change(store, opened, options)
        if not instead:
            _serve(store, options)
        elif what == "status":
            _show(store, output_format)
            return
        elif what is None and choose is None:
            return  # a link was closed, and that was all
        spec, events = spec_of(store), export(store, opened)
    finally:
        store.close()
    if choose is not None:
        _choose(opened, replace(_asked(opened, options), spec=spec), choose)
    else:
        _tell(events, spec, storage)


@dataclass(frozen=True)
class _Asked:
    """What is asked; for checkpoints, also about which model: epochs by run."""

    spec: "EvaluationSpec"
    trained: str | None
    epochs: dict[str, int]


def _asked(storage: "Storage", options: dict[str, Any]) -> _Asked:
    from lima.rating.items import EvaluationSpec
    from lima_k8s.web.annotate.runs import checkpoints, chosen, generated_runs

    kind, others = options["kind"], options["others"]
    if bool(others) not in COMPARED.get(kind, (False,)):
        need = "takes no --against" if others else "needs the other side: name it with --against"
        raise InputError(f"--kind {kind} {need}")
    runs = generated_runs(storage, options["experiment"])
    # An arm can have both responses and conversations: the kind says which are meant.
    runs = [g for g in runs if g.chat == (kind == "dialogue")] or runs
    if kind == "checkpoint":
        first, *rest = checkpoints(runs, options["run"])
    else:
        first = chosen(runs, options["run"], "--run")
        rest = [chosen(runs, other, "--against") for other in others]
    spec = EvaluationSpec(
        experiment=first.experiment,
        arm=first.arm,
        kind=kind,
        run=first.run,
        others=tuple(other.run for other in rest),
        sources=options["sources"],
        count=options["count"],
        shared=options["overlap"],
        repeats=options["repeats"],
        both_orders=options["both_orders"],
        seed=options["seed"],
    )
    return _Asked(spec, first.parent, {g.run: g.epoch for g in (first, *rest) if g.epoch})


def _change(store: "Store", storage: "Storage", options: dict[str, Any]) -> None:
    """Invite and withdraw as the options say."""
    from lima.rating.labels import known_groups
    from lima.store.scan import Tables
    from lima_k8s.web.annotate.invitations import invite, withdraw
    from lima_k8s.web.annotate.opening import spec_of

    for name in options["withdrawn"]:
        withdraw(store, name)
        done = store.standing(name).done
        say(f"the link of {name} is closed; labels that stay: {done}")
    if options["invited"]:
        labelled = known_groups(Tables(storage, spec_of(store).experiment))
        for name in options["invited"]:
            invite(store, name, labelled)


def _serve(store: "Store", options: dict[str, Any]) -> None:
    """Serve the round, unless another command does: a second one would change its links."""
    from lima.common.filelock import held
    from lima_k8s.web.serving import until_stopped

    try:
        lock = held(store.path.with_name(f".{store.path.name}.lock"), wait=False)
        # From the first moment, when the libraries of the server are still read.
        with lock, until_stopped():
            _serve_alone(store, options)
    except BlockingIOError:
        raise InputError(
            f"{store.path}: another command serves it at {store.settings().get('origin')}; end "
            "that one first, or see its links, also those of a new --invite, with --status"
        ) from None


def _serve_alone(store: "Store", options: dict[str, Any]) -> None:
    from lima_k8s.web.annotate.invitations import access_token, annotators, invite
    from lima_k8s.web.annotate.serve import bind, serve
    from lima_k8s.web.serving import open_page

    if not annotators(store):
        invite(store, f"{ALONE}:author")
    place = bind(store, options["host"], options["port"], options["url"])
    say(f"{len(store.entries())} items to label; labels are kept in {store.path}")
    links = _links(store, place)
    for name, link in links:
        say(f"  {name}  {link}")
    if place.guarded:
        say(f"access token, to be given by another way than the links: {access_token(store)}")
    if len(links) == 1 and not place.guarded:
        open_page(links[0][1], browser=options["browser"])
    say("end with Ctrl-C")
    serve(store, place)


def _links(store: "Store", place: "Place") -> list[tuple[str, str]]:
    from lima_k8s.web.annotate.invitations import annotators

    return [(a.name, place.link(a)) for a in annotators(store) if not a.revoked]


def _show(store: "Store", output_format: str) -> None:
    """Write who has labelled how much."""
    from lima_k8s.web.annotate.invitations import annotators

    origin = store.settings().get("origin")
    rows = [
        {
            "annotator": a.name,
            "role": a.role,
            "withdrawn": a.revoked,
            **_standing(store, a.name),
            "link": f"{origin}/a/{a.secret}/" if origin and not a.revoked else None,
        }
        for a in annotators(store)
    ]
    document = {"items": len(store.entries()), "database": str(store.path), "annotators": rows}
    if output_format == "json":
        write_json(document)
        return
    say(f"{document['items']} items, kept in {store.path}")
    headers = ("annotator", "role", "withdrawn", "done", "left", "link")
    write_table(headers, [[row[name] for name in headers] for row in rows])


def _standing(store: "Store", name: str) -> dict[str, int]:
    standing = store.standing(name)
    return {"done": standing.done, "left": standing.left}


def _tell(events: dict[str, int], spec: "EvaluationSpec", storage: str) -> None:
    from lima.rating.items import evaluation_identity

    counts = ", ".join(f"{n} of {rater}" for rater, n in events.items()) or "none yet"
    run = evaluation_identity(spec)["run_id"]
    say(f"\nevents written to annotations (run {run}): {counts}")
    if spec.kind == "checkpoint":
        say("next:    the same command with --choose EPOCH")
    else:
        say(f"next:    lima-k8s agreement {quote(storage)}")


def _choose(storage: "Storage", asked: _Asked, epoch: int) -> None:
    """Record an epoch beside how all of them did."""
    from lima.rating.items import evaluation_identity
    from lima.rating.selection import compare_epochs, record_choice

    run = _trained(asked)
    standings = compare_epochs(storage, asked.spec, asked.epochs)
    record_choice(storage, run, epoch, standings, evaluation_identity(asked.spec)["run_id"])
    write_table(
        ("epoch", "won", "tied", "lost", "points", ""),
        [
            (
                s.epoch,
                s.wins,
                s.ties,
                s.losses,
                None if s.points is None else round(s.points, 3),
                "chosen" if s.epoch == epoch else None,
            )
            for s in standings
        ],
    )
    say(f"recorded for run {run}; --set generate.model.epoch={epoch} uses it")


def _write_chosen(storage: "Storage", asked: _Asked, output_format: str) -> None:
    from lima.rating.selection import read_choice

    choice = read_choice(storage, _trained(asked))
    if output_format == "json":
        write_json(choice)
    else:
        click.echo(choice["epoch"])


def _trained(asked: _Asked) -> str:
    if asked.spec.kind != "checkpoint" or asked.trained is None:
        raise InputError("an epoch is chosen with --kind checkpoint, of a model trained here")
    return asked.trained
