"""The LIMA release, and any other set of examples in a known layout, as a source.

The original names a source for every example. Copies in other layouts lost it, but kept the
order; so a file of LIMA's size without sources gets them by position (`release_sources`).
"""

from collections.abc import Iterator, Sequence

from lima.curation.candidate import Candidate, Provenance
from lima.curation.damage import Damage
from lima.curation.layouts import conversation
from lima.curation.records import Record, files, records, stem

LICENCE = "CC BY-NC-SA"
"""Of the release as a whole, "or stricter where the source is stricter"."""
URL = "https://huggingface.co/datasets/GAIR/lima"
SECTIONS = (
    ("stackexchange", 400),
    ("authored", 200),
    ("wikihow", 200),
    ("natural_instructions", 50),
    ("writingprompts", 150),
)
"""Order of the 1,000 in the release; the dialogues follow."""
DIALOGUE = "dialogue"
NAMES = {
    "paper_authors_a": "authored",
    "paper_authors_b": "authored",
    "paper_authors": "authored",
    "pushshift_r_writing_prompts": "writingprompts",
    "pushshift_r_askreddit": "askreddit",
    "multi_turn": DIALOGUE,
}
"""Names of the original release, in the words of this suite."""


def read(
    paths: Sequence[str], *, damage: Damage, source: str = "", licence: str = ""
) -> Iterator[Candidate]:
    """Yield the examples of files in any layout of `lima.curation.layouts`, in their order.

    Args:
        paths: Files, or folders of them.
        damage: Takes what is no example.
        source: Put before the source of each example, as `lima/`.
        licence: Of examples that name none.

    Raises:
        DataError: a path does not exist, or `damage` is strict.

    """
    for path in files(paths, (".jsonl", ".json")):
        found = list(_conversations(path, damage))
        known = release_sources([len(turns) for turns, _ in found])
        for number, (turns, record) in enumerate(found):
            named = str(record.get("source") or "") or known[number]
            released = named in NAMES or bool(known[number])
            yield Candidate(
                source=source + (NAMES.get(named, named) or stem(path)),
                source_id=f"{stem(path)}:{number}",
                conversation=turns,
                category=str(record.get("category") or ""),
                provenance=Provenance(
                    url=str(record.get("url") or (URL if released else "")),
                    licence=str(record.get("licence") or (LICENCE if released else licence)),
                ),
                measures={"response_characters": float(sum(map(len, turns[1::2])))},
            )


def release_sources(lengths: Sequence[int]) -> list[str]:
    """Return the source of each example of the release, from the order it was published in.

    Args:
        lengths: Utterances of each example. Any file but 1,000 pairs, with or without dialogues
            after them, is not the release: its sources are empty.

    """
    pairs = sum(size for _, size in SECTIONS)
    head, tail = lengths[:pairs], lengths[pairs:]
    if len(head) < pairs or set(head) != {2} or any(n < 4 for n in tail):
        return [""] * len(lengths)
    names = [name for name, size in SECTIONS for _ in range(size)]
    return [*names, *([DIALOGUE] * len(tail))]


def _conversations(path: str, damage: Damage) -> Iterator[tuple[tuple[str, ...], Record]]:
    for where, record in records(path, damage):
        try:
            yield conversation(record), record
        except ValueError as error:
            damage.note(where, "not an example", str(error))
