"""`lima-k8s init`."""

import sys
from pathlib import Path
from typing import Any

import click

from lima.errors import InputError
from lima.spec import CellSpec
from lima_k8s.commands import completion
from lima_k8s.commands.options import extension_option
from lima_k8s.terminal.output import say, yaml_text

LEARNING_RATES = {"train.optimizer.lr_start": 1e-5, "train.optimizer.lr_end": 1e-6}
"""Of the paper: those of a recipe that trains a model from scratch are too high for one that is
trained already."""
LONGEST = 2048
"""Tokens of an example, and of a response, if the model reads as many."""


@click.command("init")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--model", help="A folder that transformers opens, or a hub name.")
@click.option("--data", help="Training examples: a JSONL file, or authored:NAME.")
@click.option("--prompts", help="Prompts to answer, likewise.  [default: authored:test]")
@click.option("--experiment", help="Name of the study.  [default: that of FILE]")
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="NAME[:PATH=VALUE]",
    help="An arm, and what is different in it; repeatable, also for the same arm.  [default: all]",
)
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(0), help="Repeatable.")
@click.option(
    "--extends",
    default="tiny",
    show_default=True,
    help="Recipe or file that has all other settings.",
    shell_complete=completion.recipes,
)
@extension_option
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def command(
    *,
    file: Path,
    model: str | None,
    data: str | None,
    prompts: str | None,
    experiment: str | None,
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    extends: str,
    extensions: tuple[str, ...],
    force: bool,
) -> None:
    """Write a study of your own data and model, in a few lines.

    Asks for what no option says. The file is for --recipe, for `lint` and for `show`, which
    writes all settings out. docs/my-data.md goes through it.
    """
    from lima.recipes.registry import load_study, study_of

    if file.exists() and not force:
        raise InputError(f"{file}: there already; name another file, or replace it with --force")
    first = load_study(extends, extensions=extensions)[0]
    document: dict[str, Any] = {
        "extends": extends,
        **({"extensions": list(extensions)} if extensions else {}),
        "experiment": experiment or file.stem,
        "set": _settings(
            first,
            model or _ask("Model, a folder or a hub name", "--model"),
            data or _ask("Training examples, a JSONL file", "--data"),
            prompts or "authored:test",
        ),
        "arms": _arms(arms or ("all",)),
        "seeds": list(seeds or (0,)),
    }
    runs = study_of(document, str(file), extensions)  # before there is a file that says no study
    file.write_text(f"# lima-k8s show {file}: all settings of every run\n{yaml_text(document)}\n")
    say(
        f"{file}: {len(runs)} run{'s' * (len(runs) > 1)}\n"
        f"next:    lima-k8s lint {file} -v\n"
        f"         lima-k8s submit generate --local --recipe {file} --storage results"
    )


def _ask(question: str, option: str) -> str:
    if not sys.stdin.isatty():
        raise InputError(f"nobody is there to answer; say it with {option}")
    return str(click.prompt(question, err=True))


def _settings(first: CellSpec, model: str, data: str, prompts: str) -> dict[str, Any]:
    """Return what is changed of the recipe for every run."""
    if first.train is None:
        raise InputError("--extends names a study that trains nothing; see `lima-k8s recipes`")
    longest = min(_context(model) or LONGEST, LONGEST)
    settings: dict[str, Any] = {"base": None} if first.base else {}
    settings |= {"train.model.path": model, "train.data.path": data}
    settings |= {"train.data.count": None} if first.train.data.count else {}
    settings |= {"train.heldout": None, "train.max_length": longest}
    settings |= LEARNING_RATES if first.base else {}
    if first.generate:
        settings["generate.prompts.path"] = prompts
        settings["generate.decoding.max_new_tokens"] = longest
    return settings | _compute(first)


def _context(model: str) -> int | None:
    """Return how many tokens a model reads, if it is on this machine."""
    from lima.lint.facts import Facts
    from lima.spec import ModelSpec

    facts = Facts().model(ModelSpec(model), CellSpec("none", "none"))
    return facts.context if facts else None


def _compute(first: CellSpec) -> dict[str, Any]:
    """Return settings for the GPU of this machine, where it has one and the recipe uses none."""
    from lima.runs.devices import gpus_here
    from lima.spec import computes

    if gpus_here() == 0:
        return {}
    return {
        f"{stage}.compute.{name}": value
        for stage, compute in computes(first).items()
        if compute.device == "cpu" and stage != "base"
        for name, value in (("device", "cuda"), ("precision", "bf16"))
    }


def _arms(texts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    from lima.recipes.overrides import parse_override

    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, separator, setting = text.partition(":")
        if not name:
            raise InputError(f"--arm {text!r}: write NAME, or NAME:PATH=VALUE")
        arm = found.setdefault(name, {})
        if separator:
            override = parse_override(setting)
            arm[".".join(override.path)] = override.value
    return found
