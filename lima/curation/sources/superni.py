"""Super-Natural Instructions: one example of each of some generation tasks (section 2.2).

A task is a JSON file. Both schemas are read: the final one (`Definition` a list, languages and
a licence of the instances) and the early one of 2021 (`Definition` a text, none of those).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lima.common.paths import stem
from lima.curation.candidates.candidate import Candidate, Provenance
from lima.curation.reading.damage import Damage
from lima.curation.reading.record_files import document
from lima.curation.sources.source_kind import SourceKind
from lima.data.plain_text import tidy
from lima.spec.codec import sha256_key
from lima.store.files import files

SOURCE = "natural_instructions"
SUFFIXES = (".json",)
LICENCE = "Apache-2.0"
URL = "https://github.com/allenai/natural-instructions/blob/master/tasks/{}.json"
ENGLISH = "English"
GENERATION = {
    "Code to Text",
    "Data to Text",
    "Dialogue Generation",
    "Entity Generation",
    "Explanation",
    "Grammar Error Correction",
    "Paper Review",
    "Paraphrasing",
    "Poem Generation",
    "Program Execution",
    "Question Decomposition",
    "Question Generation",
    "Question Rewriting",
    "Sentence Composition",
    "Sentence Compression",
    "Sentence Expansion",
    "Story Composition",
    "Style Transfer",
    "Summarization",
    "Text Completion",
    "Text Simplification",
    "Text to Code",
    "Title Generation",
    "Translation",
    # Names of 2021, some of them paths: `Text Generation -> Sentence Generation`.
    "Answer Generation",
    "Code Summarization",
    "Long Text Generation",
    "Story Completion",
    "Structured Text Generation",
    "Text Generation",
}
"""Task types whose output is written and not chosen. The paper says natural language generation
"such as summarization, paraphrasing, and style transfer"; types that ask for a wrong answer on
purpose are left out."""


def read(
    paths: Sequence[str], *, damage: Damage, seed: int, instances: int = 4
) -> Iterator[Candidate]:
    """Yield the first `instances` examples of every task, in a seeded order, task by task.

    The first is the one to take; the others stand in where a duplicate or a licence drops it.
    A task that is not generation (`not_generation`) or not in English (`not_english`) is
    dropped, as is an example that equals one shown in the task's own definition
    (`shown_example`) or lacks an input or an output.

    Raises:
        DataError: a path does not exist, or `damage` is strict.

    """
    for path in files(paths, SUFFIXES):
        task = document(path, damage)
        if not isinstance(task, dict) or not isinstance(task.get("Instances"), list):
            damage.note(path, "not a task of Super-Natural Instructions", "no Instances")
            continue
        examples = list(_examples(task, path, damage, seed))
        shared = _shared(stem(path), task, len(examples))
        shown = {e.get("input") for e in _dicts(task.get("Positive Examples"))}
        for name, given, output in examples[:instances]:
            yield _candidate(shared, name, given, output, shown=given in shown)


def _examples(
    task: dict[str, Any], path: str, damage: Damage, seed: int
) -> Iterator[tuple[str, str, str]]:
    """Yield `(name, input, output)` of a task's instances, in a seeded order, each once.

    They are named by their text: files of the two schemas number them differently.
    """
    found = {}
    for index, instance in enumerate(task["Instances"]):
        output = _text(instance.get("output")) if isinstance(instance, dict) else None
        if output is None or not isinstance(instance.get("input"), str):
            damage.note(f"{path}: Instances[{index}]", "an instance without input or output")
        else:
            key = sha256_key([stem(path), instance["input"], output])
            found[key] = (f"{stem(path)}:{key[:12]}", instance["input"], output)
    for key in sorted(found, key=lambda key: sha256_key([seed, key])):
        yield found[key]


def _shared(name: str, task: dict[str, Any], instances: int) -> Candidate:
    """Return what the examples of a task share; the conversation is its definition."""
    kinds = {part.strip() for kind in _texts(task.get("Categories")) for part in kind.split("->")}
    languages = [
        *_texts(task.get("Input_language")),
        *_texts(task.get("Output_language")),
        *_texts(task.get("Instruction_language")),
    ]
    reasons = [
        *([] if GENERATION & kinds else ["not_generation"]),
        *([] if all(language == ENGLISH for language in languages) else ["not_english"]),
    ]
    return Candidate(
        source=SOURCE,
        source_id=name,
        conversation=(tidy("\n".join(_texts(task.get("Definition")))),),
        category=name,
        provenance=Provenance(
            url=URL.format(name),
            authors=tuple(_texts(task.get("Contributors"))),
            licence=" / ".join([LICENCE, *_texts(task.get("Instance License"))]),
            changes="definition and input joined",
        ),
        measures={"instances": instances},
        reasons=tuple(reasons),
    )


def _candidate(shared: Candidate, name: str, given: str, output: str, *, shown: bool) -> Candidate:
    response = tidy(output)
    reasons = [
        *shared.reasons,
        *(["shown_example"] if shown else []),
        *([] if response else ["no_response"]),
    ]
    return replace(
        shared,
        source_id=name,
        conversation=(f"{shared.conversation[0]}\n\n{tidy(given)}", response),
        measures={**shared.measures, "response_characters": len(response)},
        reasons=tuple(reasons),
    )


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item.strip() for item in items if isinstance(item, str) and item.strip()]


def _text(value: Any) -> str | None:
    """Return a text, or the first of a list of accepted outputs."""
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, str) else None


KIND = SourceKind(
    "natural_instructions",
    SUFFIXES,
    lambda paths, _source, spec, damage: read(paths, damage=damage, seed=spec.seed),
    licence=LICENCE,
)
