"""Examples written by hand: JSONL, or folders of Markdown (section 2.2, section 6, appendix E).

JSONL: a line in one of the layouts of `lima.data.layouts`, with optional keys `id`,
`category`, `authors`, `licence` and `url`.

Markdown: a file an example, one heading an utterance, front matter for the optional keys:

    ---
    category: safety
    authors: [Ada Example]
    ---
    # User

    How do I pick a lock?

    # Assistant

    Picking a lock that is not yours …

Headings are `User` (or `Prompt`) and `Assistant` (or `Response`), of level one or two, outside
code. A file that ends with the user's utterance is a prompt for a test set. Without a category
in the file, its folder below the path given is the category: `safety/lock.md`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from lima.curation.candidates.candidate import Candidate, Provenance
from lima.curation.reading.damage import Damage
from lima.curation.reading.record_files import Record, open_bytes, records
from lima.curation.sources import file_names
from lima.curation.sources.licence_text import licence_text
from lima.curation.sources.source_kind import SourceKind
from lima.curation.text.style import style_measures
from lima.data.layouts import conversation
from lima.data.plain_text import one_line

SOURCE = "authored"
SUFFIXES = file_names.SUFFIXES[SOURCE]
ROLE_HEADINGS = {"user": 0, "prompt": 0, "assistant": 1, "response": 1}

_FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_HEADING = re.compile(
    rf"#{{1,2}}[ \t]+({'|'.join(ROLE_HEADINGS)})[ \t]*(?::[ \t]*)?(?:#+[ \t]*)?", re.I
)
_FENCE = re.compile(r"[ \t]*(```+|~~~+)")


def read(
    paths: Sequence[str], *, damage: Damage, names: file_names.Names | None = None
) -> Iterator[Candidate]:
    """Yield the examples of files and folders, in the order of their names.

    `style_measures` of `lima.curation.text.style` are measured; they drop nothing.

    Args:
        paths: Files, or folders of them.
        damage: Takes what is no example.
        names: Of all files of a study; none: there are only these.

    Raises:
        DataError: a path does not exist, or `damage` is strict.

    """
    found = file_names.files_to_read(SOURCE, paths, damage)
    names = names or file_names.distinct_names(found)
    for file in found:
        name, folder = names[file], _folder(file.name)
        if file.file.endswith(file_names.MARKDOWN):
            yield from _markdown(file.file, name, folder, damage)
        else:
            for number, (where, record) in enumerate(records(file.file, damage)):
                yield from _candidate(record, where, f"{name}:{number}", folder, damage)


def parse_markdown(text: str) -> Record:
    """Return the utterances of a Markdown file, as `conversations`, and its front matter.

    Raises:
        ValueError: text before the first heading, turns out of order, or bad front matter.

    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found = _FRONT.match(text)
    record = _front_matter(found[1]) if found else {}
    turns: list[list[str]] = []
    fence = ""
    for line in text[found.end() if found else 0 :].split("\n"):
        heading = None if fence else _HEADING.fullmatch(line)
        if heading:
            if ROLE_HEADINGS[heading[1].casefold()] != len(turns) % 2:
                raise ValueError(f"the heading {line.strip()!r} is out of turn")
            turns.append([])
        elif turns:
            turns[-1].append(line)
        elif line.strip():
            raise ValueError(f"{line.strip()[:40]!r} stands before the first heading `# User`")
        fence = _fence_after(line, fence)
    return {**record, "conversations": ["\n".join(lines).strip() for lines in turns]}


def _markdown(path: str, name: str, category: str, damage: Damage) -> Iterator[Candidate]:
    with open_bytes(path) as stream:
        data = stream.read()
    try:
        record = parse_markdown(data.decode("utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one
        damage.note(path, "not an example in Markdown", str(error))
        return
    yield from _candidate(record, path, name, category, damage)


def _candidate(
    record: Record, where: str, name: str, category: str, damage: Damage
) -> Iterator[Candidate]:
    try:
        turns = conversation(record)
    except ValueError as error:
        damage.note(where, "not an example", str(error))
        return
    yield Candidate(
        source=SOURCE,
        source_id=str(record.get("id") or name),
        conversation=turns,
        category=str(record.get("category") or category),
        provenance=Provenance(
            url=str(record.get("url") or ""),
            authors=_authors(record.get("authors") or record.get("author")),
            licence=licence_text(record),
        ),
        measures=style_measures(turns),
        where=where,
    )


def _front_matter(text: str) -> dict[str, Any]:
    import yaml

    from lima.spec.yamltext import load_yaml

    try:
        values = load_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"front matter is not YAML ({one_line(str(error))})") from None
    if not isinstance(values, dict):
        raise ValueError("front matter is not a list of keys and values")
    return values


def _fence_after(line: str, fence: str) -> str:
    """Return the mark that closes the code a line is in; empty: none."""
    found = _FENCE.match(line)
    if not found:
        return fence
    if not fence:
        return found[1]
    closes = found[1].startswith(fence) and not line.strip().strip(fence[0])
    return "" if closes else fence


def _folder(name: str) -> str:
    return name.rpartition("/")[0].rpartition("/")[2]


def _authors(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value] if value else []
    return tuple(one_line(str(name)) for name in names)


KIND = SourceKind(
    SOURCE,
    SUFFIXES,
    lambda paths, _source, spec, damage: read(
        paths, damage=damage, names=file_names.names_in(spec)
    ),
)
