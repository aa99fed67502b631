"""The last guard of ids: two different examples under one are refused, never taken for one.

Of files of rows alone. Elsewhere an id is the name that the original has in its source: of an
article, a task or a post, of which the first text is taken.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

from lima.curation.candidates.candidate import Candidate
from lima.curation.candidates.table import CandidateStore, from_row
from lima.curation.reading.damage import Damage
from lima.curation.sources.file_names import SUFFIXES
from lima.curation.sources.kinds import read_source
from lima.errors import DataError
from lima.spec.curate import CurateSpec, SourceSpec


def refuse_clashes(
    spec: CurateSpec, store: CandidateStore, shards: Iterable[tuple[SourceSpec, Sequence[str]]]
) -> None:
    """Compare all examples of files of rows that have the same id.

    Args:
        spec: Of the run.
        store: Of its candidates.
        shards: Of each source those that were written.

    Raises:
        DataError: two differ; it names their files and rows.

    """
    seen: dict[str, tuple[bytes, SourceSpec]] = {}
    columns = ["candidate_key", "conversation"]
    for source, names in shards:
        for shard in names if source.kind in SUFFIXES else ():
            for at, row in enumerate(store.read(shard, columns)):
                text = _digest(row["conversation"])
                first, other = seen.setdefault(row["candidate_key"], (text, source))
                if first != text:
                    candidate = from_row(store.open(shard).slice(at, 1).to_pylist()[0])
                    raise DataError(_told(candidate, [other, source], spec))


def _told(candidate: Candidate, sources: Sequence[SourceSpec], spec: CurateSpec) -> str:
    name = f"{candidate.source} {candidate.source_id}"
    places = _places(candidate.key, sources, spec)
    if len(places) < 2:  # the files have changed since
        places = list(dict.fromkeys(path for source in sources for path in source.paths))
    return (
        f"{' and '.join(places)}: different examples, and both are called {name}; give one "
        "another `id`, or another name to its file, and submit the study again"
    )


def _places(key: str, sources: Sequence[SourceSpec], spec: CurateSpec) -> list[str]:
    """Return where the texts of a key stand, each once, by reading the files again."""
    found: dict[bytes, str] = {}
    for source in sources:
        for candidate in read_source(source, spec, Damage()):
            if candidate.key == key:
                found.setdefault(_digest(candidate.conversation), candidate.where)
    return list(found.values())


def _digest(conversation: Sequence[str]) -> bytes:
    """Return what tells texts apart, in few bytes."""
    return sha256("\0".join(conversation).encode()).digest()[:16]
