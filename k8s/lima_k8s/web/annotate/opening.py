"""Which round the options of `annotate` mean: one that exists, one that grows, or a new one."""

from dataclasses import replace
from typing import Any

import click
from click.core import ParameterSource

from lima.rating.items import EvaluationSpec
from lima.spec.codec import decode
from lima.store.storage import Storage
from lima_k8s.terminal.output import say
from lima_k8s.web.annotate.database import Store
from lima_k8s.web.annotate.existing import existing_round, find_round
from lima_k8s.web.annotate.rounds import open_round, store_path
from lima_k8s.web.annotate.runs import chosen, generated_runs

EXPLICIT = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
PLAIN = ("experiment", "kind", "sources", "repeats", "both_orders", "seed")
"""Options that are called as fields of a round's spec."""


def _given(options: dict[str, Any]) -> set[str]:
    """Return the options that were given, not their defaults."""
    context = click.get_current_context()
    return {name for name in options if context.get_parameter_source(name) in EXPLICIT}


def existing(storage: Storage, options: dict[str, Any], *, reading: bool) -> Store:
    """Return the round that exists and is meant, as far as the options say."""
    wanted = _wanted(storage, options)
    otherwise = {name: options[name] for name in PLAIN if options[name] is not None}
    found = existing_round(storage, options["database"], wanted, otherwise)
    return Store(found.path, reading=reading)


def _wanted(storage: Storage, options: dict[str, Any]) -> dict[str, Any]:
    """Return what the options that were given say of a round, by fields of its spec."""
    given = _given(options)
    wanted = {name: options[name] for name in PLAIN if name in given}
    if not given & {"run", "others"} or options["kind"] == "checkpoint":
        return wanted
    runs = generated_runs(storage, options["experiment"])
    runs = [g for g in runs if g.chat == (options["kind"] == "dialogue")] or runs
    if "run" in given:
        wanted["run"] = chosen(runs, options["run"], "--run").run
    if "others" in given:
        others = [chosen(runs, name, "--against").run for name in options["others"]]
        wanted["others"] = tuple(others)
    return wanted


def begun(storage: Storage, spec: EvaluationSpec, options: dict[str, Any]) -> Store:
    """Return the round that goes on, grown to what is asked for, or a new one."""
    given = _given(options)
    found = find_round(storage, spec, options["database"])
    if found:  # it stays as large as it is, unless more is asked for
        count = spec.count if "count" in given else found.spec.count
        shared = spec.shared if "overlap" in given else found.spec.shared
        spec = replace(spec, count=count, shared=shared)
    path = found.path if found else options["database"] or store_path(spec, storage)
    store = open_round(spec, storage, path)
    prompts = len({entry.row["prompt_key"] for entry in store.entries()})
    if spec.count is not None and prompts > spec.count:
        say(f"this round has {prompts} prompts already; all of them are kept")
    return store


def spec_of(store: Store) -> EvaluationSpec:
    """Return what the round began as, by which its rows are known."""
    return decode(EvaluationSpec, store.settings()["spec"], str(store.path))
