"""All sources but Stack Exchange behind one function: files of a kind to candidates."""

from collections.abc import Iterator
from dataclasses import replace

from lima.common.paths import below
from lima.curation.candidates.candidate import Candidate
from lima.curation.reading.damage import Damage
from lima.curation.sources import alpaca, authored, lima_release, reddit, superni, wikihow
from lima.curation.sources.source_kind import SourceKind
from lima.curation.stackexchange.sites import DIALOGUES, GROUPS, LANGUAGES, POOL, UNLISTED
from lima.inputs import listing
from lima.spec import names
from lima.spec.curate import CurateSpec, SourceSpec

KINDS = names.Registry[SourceKind](names.SOURCES)
"""What `curate.sources[].kind` may name. One more is a `SourceKind` in a file, and a line below."""


def add_source(kind: SourceKind) -> None:
    """Make a kind of source known: to specs, to what reads it, and to what fingerprints it."""
    KINDS.add(kind.name, kind)
    listing.add_suffixes(kind.name, kind.suffixes)


for _kind in (
    wikihow.KIND,
    reddit.WRITING_PROMPTS,
    reddit.ASK_REDDIT,
    superni.KIND,
    alpaca.KIND,
    authored.KIND,
    lima_release.KIND,
):
    add_source(_kind)


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
    return below(spec.root, path)


def read_source(source: SourceSpec, spec: CurateSpec, damage: Damage) -> Iterator[Candidate]:
    """Yield the candidates of a source.

    Raises:
        DataError: a file is missing, or the input is damaged and `spec` is strict.

    """
    paths = [resolved(path, spec) for path in source.paths]
    for candidate in KINDS[source.kind].read(paths, source, spec, damage):
        yield _licensed(candidate, source)


def _licensed(candidate: Candidate, source: SourceSpec) -> Candidate:
    """Return a candidate with the licence that is declared, unless its file names one."""
    presumed = KINDS[source.kind].licence
    named = candidate.provenance.licence
    if not source.licence or not named.startswith(presumed) or (named and not presumed):
        return candidate
    licence = source.licence + named.removeprefix(presumed)
    return replace(candidate, provenance=replace(candidate.provenance, licence=licence))
