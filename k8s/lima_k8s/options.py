"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lima_k8s import completion

F = TypeVar("F", bound=Callable[..., Any])


def study_options(function: F) -> F:
    """Add the options that choose and change the runs of a study: overrides, arms, seeds."""
    for option in (
        click.option(
            "--seed", "seeds", multiple=True, type=int, help="Only this seed; repeatable."
        ),
        click.option(
            "--arm",
            "arms",
            multiple=True,
            help="Only this arm; repeatable.",
            shell_complete=completion.arms,
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="PATH=VALUE",
            help="Change a value of every run, as train.epochs=3; null removes; repeatable.",
            shell_complete=completion.settings,
        ),
    ):
        function = option(function)
    return function


def format_option(*formats: str) -> Callable[[F], F]:
    """Add --format; the first one is the default."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="How to write the result.",
    )


def cluster_options(function: F) -> F:
    """Add the options that choose a cluster and a namespace in it."""
    for option in (
        click.option(
            "-n", "--namespace", help="Namespace of the runs; default: the context's, else lima."
        ),
        click.option("--context", "kube_context", help="Context of the kubeconfig."),
    ):
        function = option(function)
    return function
