"""Options that several commands share."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lima.errors import InputError
from lima_k8s.commands import completion

if TYPE_CHECKING:
    from lima_k8s.runs.backend import Backend

F = TypeVar("F", bound=Callable[..., Any])


def extension_option(function: F) -> F:
    """Add --extension."""
    return click.option(
        "--extension",
        "extensions",
        multiple=True,
        metavar="FILE",
        help="Python file PACKAGE.py that adds names PACKAGE.NAME (docs/extending.md); repeatable.",
    )(function)


def study_options(function: F) -> F:
    """Add the options that choose and change the runs of a study: overrides, arms, seeds, files."""
    for option in (
        extension_option,
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


def allow_key_option(function: F) -> F:
    """Add --allow-key."""
    return click.option(
        "--allow-key",
        "allowed_keys",
        multiple=True,
        metavar="NAME",
        help="Environment variable that the study may send to an endpoint as its key, beside those "
        "named *_API_KEY and *_TOKEN; repeatable.",
    )(function)


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


def as_option(function: F) -> F:
    """Add --as, which says what arms are of the paper's."""
    return click.option(
        "--as",
        "named",
        multiple=True,
        metavar="ARM=PAPER",
        callback=lambda _context, _option, texts: _named(texts),
        help="Our arm that stands for one of the paper's, whatever its spec says, as "
        "my-arm=lima or gemini=bard; repeatable. Arms that are trained as our recipes say, and "
        "endpoints asked for the paper's models, are found.",
    )(function)


def _named(texts: Iterable[str]) -> dict[str, str]:
    """Return our arm by the paper's name.

    Raises:
        InputError: a text is not ARM=PAPER, or one of the paper's is named twice.

    """
    found: dict[str, str] = {}
    for text in texts:
        arm, separator, paper = text.rpartition("=")
        if not (arm and separator and paper):
            raise InputError(f"--as {text}: write ARM=PAPER, as my-arm=lima")
        if found.setdefault(paper, arm) != arm:
            raise InputError(f"--as {text}: {found[paper]} is {paper} already; name one arm")
    return found


def place_options(function: F) -> F:
    """Add the options that choose where runs are: in a namespace of a cluster, or in a storage."""
    return click.option(
        "--storage",
        metavar="URI",
        help="Runs of this storage instead of a cluster's: of `submit --local`, while they run and "
        "afterwards.",
    )(cluster_options(function))


def backend_of(storage: str | None, kube_context: str | None, namespace: str | None) -> "Backend":
    """Return the runs that these options name.

    Raises:
        InputError: they name a storage and a cluster.

    """
    if storage is None:
        from lima_k8s.cluster.watch.backend import ClusterRuns

        return ClusterRuns(kube_context, namespace)
    refuse_both(storage, kube_context, namespace)
    from lima_k8s.local.backend import StorageRuns

    return StorageRuns(storage)


def refuse_both(storage: str | None, kube_context: str | None, namespace: str | None) -> None:
    """Refuse options that name two places.

    Raises:
        InputError: they do.

    """
    if storage and (kube_context or namespace):
        raise InputError("--storage names runs without a cluster; leave out --context and -n")


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
