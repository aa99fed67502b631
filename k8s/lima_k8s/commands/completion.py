"""What a shell offers for words that are not options: recipes, arms, settings, runs, GPUs.

Nothing here may fail or take long: a shell waits for it. What cannot be known is not offered.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import click
from click.shell_completion import CompletionItem

from lima.recipes.overrides import known_paths
from lima.recipes.registry import RECIPES, describe, load_study

Offer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
PATIENCE_S = 2.0
"""For a cluster or a storage to answer."""


def recipes(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer recipes, and files."""
    named = {name: describe(recipe) for name, recipe in RECIPES.items()}
    return _or_files(begun, named)


def profiles(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer cluster profiles, and files."""
    from lima_k8s.profile.assets import profiles as shipped

    return _or_files(begun, dict.fromkeys(shipped(), ""))


def gpus(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the GPUs that `plan` knows."""
    from lima.training.sizing.gpu_needs import GPUS

    return _beginning(begun, GPUS)


def settings(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer paths of settings, level by level."""
    level = begun.count(".")
    paths = [path for path in known_paths() if path.startswith(begun)]
    deeper = {".".join(path.split(".")[: level + 1]) for path in paths}
    return [
        CompletionItem(p + ("." if any(q.startswith(f"{p}.") for q in paths) else "="))
        for p in sorted(deeper)
    ]


def arms(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the arms of the recipe, or of the file, that is named already."""
    found: list[str] = []
    with contextlib.suppress(Exception):
        files = context.params.get("extensions") or ()
        study = load_study(_given(context, "recipe"), extensions=files)
        found = [cell.arm for cell in study]
    return _beginning(begun, dict.fromkeys(found))


def runs(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the runs of the namespace: names, run ids, ARM/SEED."""
    place = (context.params.get("kube_context"), context.params.get("namespace"))
    return _beginning(begun, dict.fromkeys(_in_time(lambda: list(_cluster_runs(*place)))))


def stored_runs(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the runs of the storage that is named already: arms, run ids, ARM/SEED."""
    found = _in_time(lambda: list(_stored_runs(_given(context, "storage"))))
    return _beginning(begun, dict.fromkeys(found))


def _given(context: click.Context, name: str) -> str:
    """Return an argument that was written before; an option without its value keeps it unparsed."""
    return context.params.get(name) or next(iter(context.args), "")


def _cluster_runs(kube_context: str | None, namespace: str | None) -> Iterator[str]:
    from lima_k8s.cluster.read.api import Cluster
    from lima_k8s.cluster.read.snapshot import read_runs

    for run in read_runs(Cluster(kube_context, namespace)):
        yield from (run.name, run.run_id, f"{run.arm}/{run.seed}")


def _stored_runs(storage: str) -> Iterator[str]:
    from lima.store.scan import Tables
    from lima.store.storage import Storage
    from lima.store.tables import RUNS

    rows = Tables(Storage(storage)).read(RUNS, ["arm", "seed", "run_id", "stage"]).to_pylist()
    for row in rows:
        if row["stage"] in ("train", "generate"):
            yield from (row["arm"], row["run_id"], f"{row['arm']}/{row['seed']}")


def _in_time(look: Callable[[], list[str]]) -> list[str]:
    """Return what `look` finds before patience ends; nothing if it fails."""
    found: list[str] = []

    def work() -> None:
        with contextlib.suppress(Exception):
            found.extend(look())

    # Of a thread that goes on, the end of the process is the end.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return found


def _beginning(begun: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(begun)]


def _or_files(begun: str, names: dict[str, str]) -> list[CompletionItem]:
    found = [CompletionItem(n, help=told) for n, told in names.items() if n.startswith(begun)]
    return found or [CompletionItem(begun, type="file")]
