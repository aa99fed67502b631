"""The LIMA release, and any other set of examples in a known layout, as a source.

The original names a source for every example; copies in other layouts lost it. An example is taken
for one of the release only if its words prove it: their hashes are listed in `lima_release.txt`,
for the 1,029 training examples and 300 test prompts that public copies hold.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from importlib import resources

from lima.common.paths import stem
from lima.curation.candidates.candidate import Candidate, Provenance
from lima.curation.reading.damage import Damage
from lima.curation.reading.record_files import Record, records
from lima.curation.sources import file_names
from lima.curation.sources.licence_text import licence_text
from lima.curation.sources.source_kind import SourceKind
from lima.curation.text.near_duplicates import words
from lima.data.layouts import conversation

KIND_NAME = "examples"
SUFFIXES = file_names.SUFFIXES[KIND_NAME]
LICENCE = "CC BY-NC-SA"
"""Of the release as a whole, "or stricter where the source is stricter"."""
URL = "https://huggingface.co/datasets/GAIR/lima"
TEST = "test"
"""Listed for a prompt of the test set, whose sources the release does not tell."""
DIGITS = 16
"""Of a hash: with a million examples, one in ten billion runs meets another text's."""
MIN_WORDS = 8
"""Of a conversation: anybody may have asked a shorter question in the same words."""
NAMES = {
    "paper_authors_a": "authored",
    "paper_authors_b": "authored",
    "paper_authors": "authored",
    "pushshift_r_writing_prompts": "writingprompts",
    "pushshift_r_askreddit": "askreddit",
    "multi_turn": "dialogue",
}
"""Names of the original release, in the words of this suite."""


def read(
    paths: Sequence[str],
    *,
    damage: Damage,
    source: str = "",
    licence: str = "",
    chosen: bool = False,
    names: file_names.Names | None = None,
) -> Iterator[Candidate]:
    """Yield the examples of files in any layout of `lima.data.layouts`, in their order.

    Args:
        paths: Files, or folders of them.
        damage: Takes what is no example.
        source: Put before the source of each example, as `lima/`.
        licence: Of examples that name none, those of the release among them.
        chosen: Take the chosen of two responses, see `lima.data.layouts`.
        names: Of all files of a study; none: there are only these.

    Raises:
        DataError: a path does not exist, or `damage` is strict.

    """
    found = file_names.files_to_read(KIND_NAME, paths, damage)
    names = names or file_names.distinct_names(found)
    for file in found:
        rows = _conversations(file.file, damage, chosen)
        for number, (where, turns, record) in enumerate(rows):
            known = released_as(turns)
            named = str(record.get("source") or "") or known.replace(TEST, "")
            yield Candidate(
                source=source + (NAMES.get(named, named) or stem(file.file)),
                source_id=f"{names[file]}:{number}",
                conversation=turns,
                category=str(record.get("category") or ""),
                provenance=Provenance(
                    url=str(record.get("url") or (URL if known else "")),
                    licence=licence_text(record) or licence or (LICENCE if known else ""),
                ),
                measures={"response_characters": float(sum(map(len, turns[1::2])))},
                where=where,
            )


def released_as(conversation: Sequence[str]) -> str:
    """Return the source of an example of the release, `TEST` for a test prompt; of others ""."""
    if sum(len(words(turn)) for turn in conversation) < MIN_WORDS:
        return ""
    return _hashes().get(digest(conversation), "")


def digest(conversation: Sequence[str]) -> str:
    """Return a hash of the words of a conversation, as `lima_release.txt` lists them."""
    spoken = "\n".join(" ".join(words(turn)) for turn in conversation)
    return sha256(spoken.encode()).hexdigest()[:DIGITS]


@cache
def _hashes() -> dict[str, str]:
    text = (resources.files("lima.curation.sources") / "lima_release.txt").read_text("utf-8")
    return dict(line.split() for line in text.splitlines())


def _conversations(
    path: str, damage: Damage, chosen: bool
) -> Iterator[tuple[str, tuple[str, ...], Record]]:
    for where, record in records(path, damage):
        try:
            yield where, conversation(record, chosen=chosen), record
        except ValueError as error:
            damage.note(where, "not an example", str(error))


KIND = SourceKind(
    KIND_NAME,
    SUFFIXES,
    lambda paths, source, spec, damage: read(
        paths,
        damage=damage,
        licence=source.licence,
        chosen=source.chosen,
        names=file_names.names_in(spec),
    ),
)
