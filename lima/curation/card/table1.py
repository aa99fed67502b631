"""Table 1 of a data set: counts and average lengths in tokens, beside the paper's."""

import gzip
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lima.common.temporary import temporary_folder
from lima.errors import ModelError
from lima.store.storage import Storage

Counter = Callable[[Sequence[str]], list[int]]
"""Texts to their numbers of tokens, without special ones."""
Mark = Literal["S", "sec", "der"]
"""Where a figure of the paper comes from: the text itself, a secondary source, arithmetic."""
MARKS = {
    "S": "stated in the paper's text",
    "sec": "from a public secondary source that agrees with the paper",
    "der": "computed from the two rows of the paper that this one joins",
}


@dataclass(frozen=True)
class Row:
    """A line of table 1."""

    split: str
    source: str
    count: int
    prompt_tokens: float | None = None
    """Average of all the user's utterances of an example."""
    response_tokens: float | None = None
    """Average of all the assistant's utterances; None for prompts alone."""


@dataclass(frozen=True)
class PaperRow(Row):
    """A line of the paper's table 1."""

    title: str = ""
    count_mark: Mark = "S"
    tokens_mark: Mark = "sec"


PAPER = (
    PaperRow("train", "stackexchange-stem", 200, 117, 523, "Stack Exchange (STEM)"),
    PaperRow("train", "stackexchange-other", 200, 119, 530, "Stack Exchange (Other)"),
    PaperRow("train", "wikihow", 200, 12, 1811, "wikiHow"),
    PaperRow("train", "writingprompts", 150, 34, 274, "Pushshift r/WritingPrompts"),
    PaperRow("train", "natural_instructions", 50, 236, 92, "Natural Instructions"),
    PaperRow("train", "authored", 200, 40, 334, "Paper authors (group A)"),
    PaperRow("dev", "authored", 50, 36, None, "Paper authors (group A)"),
    PaperRow("test", "askreddit", 70, 30, None, "Pushshift r/AskReddit"),
    PaperRow("test", "authored", 230, 31, None, "Paper authors (group B)"),
)
"""Counts as stated (S), lengths from a secondary source (sec)."""
JOINED = (
    PaperRow("train", "stackexchange", 400, 118, 526.5, "Stack Exchange (both)", "der", "der"),
)
"""For data sets that do not divide Stack Exchange, as the LIMA release."""


def table1(
    examples: Iterable[tuple[str, str, Sequence[str]]], count_tokens: Counter | None
) -> list[Row]:
    """Return the rows of `(split, source, conversation)`, in the order in which they come up.

    Without a tokenizer there are counts and no lengths.
    """
    groups: dict[tuple[str, str], list[Sequence[str]]] = {}
    for split, source, conversation in examples:
        groups.setdefault((split, source), []).append(conversation)
    return [
        Row(
            split,
            source,
            len(group),
            _average([c[::2] for c in group], count_tokens),
            _average([c[1::2] for c in group], count_tokens),
        )
        for (split, source), group in groups.items()
    ]


def paper_row(row: Row) -> PaperRow | None:
    """Return the paper's line for the same split and source; None: it has none."""
    known = [*PAPER, *JOINED]
    return next((p for p in known if (p.split, p.source) == (row.split, row.source)), None)


def to_markdown(rows: Sequence[Row], tokenizer: str | None) -> str:
    """Return the rows beside the paper's as a Markdown table, with what the marks mean."""
    lines = [
        "| split | source | examples | paper | prompt tokens | paper | response tokens | paper |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    marks: set[Mark] = set()
    for row in rows:
        paper = paper_row(row)
        marks |= {paper.count_mark, paper.tokens_mark} if paper else set()
        lines.append("| " + " | ".join(_cells(row, paper)) + " |")
    counted = (
        f"Lengths are averages in tokens of `{tokenizer}`, without special tokens."
        if tokenizer
        else "No lengths, since `curate.assembly.tokenizer` names no tokenizer."
    )
    told = "; ".join(f"{mark}: {MARKS[mark]}" for mark in sorted(marks))
    return "\n".join([*lines, "", f"{counted} {told}".strip(), ""])


def token_counter(name: str) -> Counter:
    """Return a counter of tokens for any Hugging Face tokenizer.

    Args:
        name: A `tokenizer.json` (also packed as .gz), a folder, local or URIs, or the name of a
            model on a hub.

    Raises:
        ModelError: there is no such tokenizer.
        StorageError: a storage could not be reached.

    """
    if "://" in name:
        with temporary_folder("lima-tokenizer-") as folder:
            return _counter(str(_fetched(name, folder)), name)
    return _counter(name, name)


def _fetched(uri: str, folder: Path) -> Path:
    """Return the copy of a file or a folder, in a folder."""
    above, _, name = uri.rstrip("/").rpartition("/")
    storage = Storage(above)
    if not storage.exists(name):
        return storage.download_folder(name, folder)
    storage.download(name, folder / name)
    return folder / name


def _counter(name: str, told: str) -> Counter:
    path = Path(name).expanduser()
    try:
        if path.is_file():
            from tokenizers import Tokenizer

            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            tokenizer = Tokenizer.from_str(data.decode())
            return lambda texts: [
                len(found.ids)
                for found in tokenizer.encode_batch(list(texts), add_special_tokens=False)
            ]
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        return lambda texts: [
            len(ids) for ids in loaded(list(texts), add_special_tokens=False)["input_ids"]
        ]
    except Exception as error:  # noqa: BLE001 - the libraries raise anything, even bare Exception
        raise ModelError(
            f"{told}: no tokenizer can be loaded ({str(error).splitlines()[0]}); name a "
            "tokenizer.json, a folder or a model of the hub"
        ) from None


def _average(turns: Sequence[Sequence[str]], count_tokens: Counter | None) -> float | None:
    """Return the tokens of an example's utterances, averaged over the examples that have any."""
    spoken = [list(texts) for texts in turns if texts]
    if not spoken or count_tokens is None:
        return None
    return sum(count_tokens([text for texts in spoken for text in texts])) / len(spoken)


def _cells(row: Row, paper: PaperRow | None) -> list[str]:
    cells = [row.split, paper.title if paper else row.source]
    for name in ("count", "prompt_tokens", "response_tokens"):
        cells.append(_figure(getattr(row, name)))
        mark = paper and (paper.count_mark if name == "count" else paper.tokens_mark)
        cells.append(
            f"{_figure(getattr(paper, name))} {mark}".replace("– sec", "–") if paper else ""
        )
    return cells


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
