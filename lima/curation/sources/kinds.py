"""All sources but Stack Exchange behind one function: files of a kind to candidates."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from lima.common.paths import joined
from lima.curation.candidates.candidate import Candidate
from lima.curation.reading.damage import Damage
from lima.curation.sources import alpaca, authored, lima_release, reddit, superni, wikihow
from lima.curation.stackexchange.sites import DIALOGUES, GROUPS, LANGUAGES, POOL, UNLISTED
from lima.spec.curate import CurateSpec, SourceSpec

PRESUMED = {
    "wikihow": wikihow.LICENCE,
    "writingprompts": reddit.LICENCE,
    "askreddit": reddit.LICENCE,
    "natural_instructions": superni.LICENCE,
    "alpaca": alpaca.LICENCE,
}
"""Licences of what the kinds are, which the files do not name: one that is declared stands in."""


def pools_of(source: SourceSpec) -> list[str]:
    """Return the pools that a source fills: one, unless it is Stack Exchange."""
    if source.kind == "stackexchange":
        return [*(POOL.format(group) for group in (*GROUPS, UNLISTED)), LANGUAGES, DIALOGUES]
    return [source.pool or source.kind]


def pools(spec: CurateSpec) -> list[str]:
    """Return all pools that the sources of `spec` fill."""
    return list(dict.fromkeys(pool for source in spec.sources for pool in pools_of(source)))


def resolved(path: str, spec: CurateSpec) -> str:
    """Return a path of a source as it is opened."""
    return joined(spec.root, path)


def read_source(source: SourceSpec, spec: CurateSpec, damage: Damage) -> Iterator[Candidate]:
    """Yield the candidates of a source.

    Raises:
        DataError: a file is missing, or the input is damaged and `spec` is strict.

    """
    for candidate in _read(source, spec, damage):
        yield _licensed(candidate, source)


def _read(source: SourceSpec, spec: CurateSpec, damage: Damage) -> Iterator[Candidate]:
    paths = [resolved(path, spec) for path in source.paths]
    readers: dict[str, Callable[[], Iterator[Candidate]]] = {
        "wikihow": lambda: wikihow.read(paths, damage=damage),
        "writingprompts": lambda: reddit.read(
            paths, damage=damage, subreddit="WritingPrompts", responses=reddit.RESPONSES
        ),
        "askreddit": lambda: reddit.read(paths, damage=damage, subreddit="AskReddit"),
        "natural_instructions": lambda: superni.read(paths, damage=damage, seed=spec.seed),
        "alpaca": lambda: alpaca.read(paths, damage=damage),
        "authored": lambda: authored.read(paths, damage=damage),
        "examples": lambda: lima_release.read(
            paths, damage=damage, licence=source.licence, chosen=source.chosen
        ),
    }
    return readers[source.kind]()


def _licensed(candidate: Candidate, source: SourceSpec) -> Candidate:
    """Return a candidate with the licence that is declared, unless its file names one."""
    presumed = PRESUMED.get(source.kind, "")
    named = candidate.provenance.licence
    if not source.licence or not named.startswith(presumed) or (named and not presumed):
        return candidate
    licence = source.licence + named.removeprefix(presumed)
    return replace(candidate, provenance=replace(candidate.provenance, licence=licence))
