"""Alpaca's 52,000 machine-written examples: the baseline's data (section 4)."""

from collections.abc import Iterator, Sequence

from lima.curation.candidates.candidate import Candidate, Provenance
from lima.curation.reading.damage import Damage
from lima.curation.reading.record_files import Record, records
from lima.curation.sources import file_names
from lima.curation.sources.source_kind import SourceKind
from lima.data.layouts import join, refuse_unread
from lima.data.plain_text import tidy

SOURCE = "alpaca"
SUFFIXES = file_names.SUFFIXES[SOURCE]
LICENCE = "CC BY-NC 4.0"
URL = "https://github.com/tatsu-lab/stanford_alpaca"
AUTHORS = ("Stanford Alpaca (text-davinci-003)",)
KEYS = ("instruction", "output")
TEXTS = (*KEYS, "input")


def read(
    paths: Sequence[str], *, damage: Damage, names: file_names.Names | None = None
) -> Iterator[Candidate]:
    """Yield the examples of files in Alpaca's layout: `instruction`, `input`, `output`.

    The prompt is the instruction, followed by the input after a blank line where there is one.
    Dropped are examples without a prompt (`no_prompt`) or a response (`no_response`).

    Args:
        paths: Files, or folders of them.
        damage: Takes what is not in the layout.
        names: Of all files of a study; none: there are only these.

    Raises:
        DataError: a path does not exist, or `damage` is strict.

    """
    found = file_names.files_to_read(SOURCE, paths, damage)
    names = names or file_names.distinct_names(found)
    for file in found:
        for number, (where, record) in enumerate(records(file.file, damage)):
            try:
                _check(record)
            except ValueError as error:
                damage.note(where, "not in Alpaca's layout", str(error))
            else:
                yield _candidate(record, f"{names[file]}:{number}", where)


def _check(record: Record) -> None:
    if not all(isinstance(record.get(key), str) for key in KEYS):
        raise ValueError(f"it needs {' and '.join(KEYS)}")
    if not isinstance(record.get("input") or "", str):
        raise ValueError("input is not text")
    refuse_unread(record, TEXTS, [record[key] for key in KEYS])


def _candidate(record: Record, source_id: str, where: str) -> Candidate:
    prompt = join(record["instruction"], record.get("input") or "")
    response = tidy(record["output"])
    reasons = [
        *([] if prompt else ["no_prompt"]),
        *([] if response else ["no_response"]),
    ]
    return Candidate(
        source=SOURCE,
        source_id=source_id,
        conversation=(prompt, response),
        provenance=Provenance(URL, AUTHORS, LICENCE, changes="instruction and input joined"),
        measures={"response_characters": len(response)},
        reasons=tuple(reasons),
        where=where,
    )


KIND = SourceKind(
    "alpaca",
    SUFFIXES,
    lambda paths, _source, spec, damage: read(
        paths, damage=damage, names=file_names.names_in(spec)
    ),
    licence=LICENCE,
)
