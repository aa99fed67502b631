"""Checks of curation: that its files are there, and that its arms can be drawn."""

from collections.abc import Iterator

from lima.common.paths import is_here
from lima.errors import DataError
from lima.lint.facts import Facts, is_remote
from lima.lint.finding import Check, Finding
from lima.spec import CellSpec
from lima.spec.curate import CurateSpec


def check_curation(cell: CellSpec, facts: Facts) -> Iterator[Finding]:  # noqa: ARG001
    """Check the stage curate."""
    spec = cell.curate
    if spec is None:
        return
    from lima.curation.arms.draw import check_arms
    from lima.curation.sources.kinds import pools

    try:
        check_arms(spec, pools(spec))
    except DataError as error:
        yield Finding("error", "curate.arms", str(error), "mend the arms")
    yield from _check_files(spec)
    yield from _check_tokenizer(spec)
    if spec.filters.min_characters > spec.filters.max_characters:
        yield Finding(
            "error",
            "curate.filters.min_characters",
            "the shortest answer is longer than the longest one",
            "--set curate.filters.max_characters=4096",
        )


def _check_files(spec: CurateSpec) -> Iterator[Finding]:
    from lima.curation.sources.kinds import resolved

    for source in spec.sources:
        for path in source.paths:
            full = resolved(path, spec)
            if not is_remote(full) and not is_here(full):
                yield Finding(
                    "error",
                    "curate.sources",
                    f"{full}: nothing there for the source {source.kind}",
                    "put it there, name the folder that holds it (--set curate.root=FOLDER), or "
                    "take the source out of the recipe, with the parts of arms that draw from it",
                )
        if source.picks:
            full = resolved(source.picks, spec)
            if not is_remote(full) and not is_here(full):
                yield Finding(
                    "note",
                    "curate.sources",
                    f"nothing is picked yet for {source.pool or source.kind}: {full} is not there",
                    "submit once, then pick: lima-k8s curate pick STORAGE",
                )


def _check_tokenizer(spec: CurateSpec) -> Iterator[Finding]:
    """Look for a file that names itself one; any other name may be one of the hub."""
    from lima.curation.sources.kinds import resolved

    name = spec.assembly.tokenizer
    full = resolved(name, spec) if name and name.endswith(".json") else ""
    if full and not is_remote(full) and not is_here(full):
        yield Finding(
            "error",
            "curate.assembly.tokenizer",
            f"{full}: no such file",
            "put the tokenizer.json of a Hugging Face tokenizer there, or name one of the hub",
        )


CURATION_CHECKS: tuple[Check, ...] = (check_curation,)
