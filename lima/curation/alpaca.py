"""Alpaca's 52,000 machine-written examples: the baseline's data (section 4)."""

from collections.abc import Iterator, Sequence

from lima.curation.candidate import Candidate, Provenance
from lima.curation.damage import Damage
from lima.curation.plaintext import tidy
from lima.curation.records import Record, files, records, stem

SOURCE = "alpaca"
LICENCE = "CC BY-NC 4.0"
URL = "https://github.com/tatsu-lab/stanford_alpaca"
AUTHORS = ("Stanford Alpaca (text-davinci-003)",)
NO_INPUT = {"", "noinput", "<noinput>", "no input", "n/a"}
"""What stands in `input` where there is none."""
KEYS = ("instruction", "output")


def read(paths: Sequence[str], *, damage: Damage) -> Iterator[Candidate]:
    """Yield the examples of files in Alpaca's layout: `instruction`, `input`, `output`.

    The prompt is the instruction, followed by the input after a blank line where there is one.
    Dropped are examples without a prompt (`no_prompt`) or a response (`no_response`).

    Raises:
        DataError: a path does not exist, or `damage` is strict.

    """
    for path in files(paths, (".json", ".jsonl")):
        for number, (where, record) in enumerate(records(path, damage)):
            if all(isinstance(record.get(key), str) for key in KEYS):
                yield _candidate(record, f"{stem(path)}:{number}")
            else:
                damage.note(where, "not in Alpaca's layout", f"it needs {' and '.join(KEYS)}")


def join(instruction: str, context: str) -> str:
    """Return the prompt of an instruction and its input."""
    context = tidy(context)
    plain = tidy(instruction)
    return plain if context.casefold().rstrip(".") in NO_INPUT else f"{plain}\n\n{context}"


def _candidate(record: Record, source_id: str) -> Candidate:
    prompt = join(record["instruction"], str(record.get("input") or ""))
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
    )
