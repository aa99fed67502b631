"""Checks what trimming takes from training examples, with the model's tokenizer where it is here.

A tokenizer that is elsewhere is stood in for by a number of characters a token, and that is said.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lima.common.paths import expanded
from lima.data.examples import Example, loader
from lima.data.trimming import Lengths, histogram
from lima.errors import DataError
from lima.lint.facts import Facts, model_of, token_of
from lima.lint.finding import Check, Finding
from lima.model.end_of_turn import BOS, EOS, trained_bpe
from lima.model.loading import SCRATCH
from lima.spec import CellSpec, ModelSpec, TrainSpec

CHARACTERS = 4
"""Of English a token, about, by LLaMA's tokenizer."""
MEASURED = 2000
"""Of more examples, so many are measured: the first of their sample."""
DOCUMENTS = 5000
"""A tokenizer that is yet to be trained is trained here too, on no more texts than these."""
MUCH = 0.1
"""Share of the examples that lose their end of turn from which on that is hardly meant."""
BAR = 40
"""Characters of the longest bar of a histogram."""

Count = Callable[[Sequence[str]], list[int]]
"""Returns the tokens of each of some texts, without special ones."""


@dataclass(frozen=True)
class _Counter:
    """Counts tokens; `added` of them go around all utterances of an example."""

    count: Count
    added: int
    exact: bool = True


@dataclass(frozen=True)
class Measured:
    """The lengths of the examples of a training stage, as far as they can be known here.

    Args:
        stage: base or train.
        data: where the examples come from.
        lengths: of these, or of the first of them.
        exact: by the model's own tokenizer; otherwise by so many characters a token.
        examples: that there are.

    """

    stage: str
    data: str
    lengths: Lengths
    exact: bool
    examples: int

    @property
    def caveat(self) -> str:
        """How the numbers came about, where they are not all of it."""
        whole = len(self.lengths.tokens) == self.examples
        sample = "" if whole else f"the first {len(self.lengths.tokens):,} of {self.examples:,}"
        guess = "" if self.exact else f"at {CHARACTERS} characters a token: no tokenizer is here"
        return "; ".join(part for part in (sample, guess) if part)

    @property
    def bars(self) -> list[tuple[int, int, int]]:
        """Bars of their histogram, as (first length, last length, examples)."""
        return histogram(Counter(self.lengths.tokens))

    def __str__(self) -> str:
        return f"{self.lengths} ({self.caveat})" if self.caveat else str(self.lengths)


def check_lengths(cell: CellSpec, facts: Facts) -> Iterator[Finding]:
    """Say how many training examples are trimmed, and what they lose."""
    for stage in ("base", "train"):
        measured = measure(cell, stage, facts)
        if measured is None or not measured.lengths.trimmed:
            continue
        lengths = measured.lengths
        much = lengths.lost_ends >= MUCH * len(lengths.tokens) and lengths.lost_ends > 0
        yield Finding(
            "warning" if much else "note",
            f"{stage}.max_length",
            f"{measured.data}: {measured}",
            _advice(cell, stage, lengths, facts) if much else "",
        )


def measure(cell: CellSpec, stage: str, facts: Facts) -> Measured | None:
    """Return the lengths of the examples of a stage; None: there are none, or they are not here."""
    spec: TrainSpec | None = getattr(cell, stage)
    if spec is None:
        return None
    load = loader(spec.text_format)
    available = facts.data(spec.data, load).available
    if not available or (spec.data.count or 0) > available:
        return None
    examples = spec.data.count or available
    sampled = replace(spec.data, count=min(examples, MEASURED))
    data = spec.data if examples <= MEASURED else sampled
    counter = _counter(spec, cell, facts)
    tokens = facts.known(
        ("lengths", data, spec.text_format, id(counter)),
        lambda: _tokens(load(data), counter, dialogue=spec.text_format == "dialogue"),
    )
    lengths = Lengths(tokens, spec.max_length, dialogue=spec.text_format == "dialogue")
    return Measured(stage, spec.data.path, lengths, counter.exact, examples)


def lines(measured: Measured) -> Iterator[str]:
    """Yield a histogram as text."""
    caveat = f" ({measured.caveat})" if measured.caveat else ""
    yield (
        f"{measured.stage}.data {measured.data}: tokens an example, trimmed to "
        f"{measured.lengths.most}{caveat}"
    )
    bars = measured.bars
    longest, width = max(count for *_, count in bars), len(str(bars[-1][1]))
    for first, last, count in bars:
        bar = "█" * -(-BAR * count // longest)
        yield f"  {first:{width}} to {last:{width}}  {bar} {count}".rstrip()


def _advice(cell: CellSpec, stage: str, lengths: Lengths, facts: Facts) -> str:
    model = facts.model(getattr(cell, stage).model, cell)
    context = model.context if model else None
    wanted = max(lengths.tokens)
    if context and lengths.most >= context:
        return f"shorter examples: the model reads {context} tokens"
    fits = min(wanted, context) if context else wanted
    return f"--set {stage}.max_length={fits}, or shorter examples"


def _tokens(examples: Sequence[Example], counter: _Counter, *, dialogue: bool) -> tuple[int, ...]:
    found = counter.count([text for e in examples for text in e.conversation])
    texts = iter(found)
    ends = 1 if dialogue else 0
    return tuple(
        counter.added + sum(next(texts) + ends for _ in example.conversation)
        for example in examples
    )


def _counter(spec: TrainSpec, cell: CellSpec, facts: Facts) -> _Counter:
    """Return what counts the tokens of a stage: the tokenizer of the model that it starts from."""
    origin = model_of(spec, cell)
    found = None
    if origin and origin.model.path == SCRATCH:
        found = facts.known(("scratch", origin), lambda: _scratch(origin, facts))
    elif origin and (folder := _folder(origin.model)):
        found = facts.known(("tokenizer", folder), lambda: _saved(folder))
    if found is None:
        return facts.known("guess", lambda: _Counter(_guess, added=1, exact=False))
    tokenizer, bos, eos = found
    around = bos if spec.text_format == "dialogue" else bos + eos
    return facts.known(
        ("counter", id(tokenizer), around), lambda: _Counter(_by(tokenizer), added=around)
    )


def _scratch(spec: TrainSpec, facts: Facts) -> tuple[Any, int, int] | None:
    """Train the tokenizer of a model from scratch, as its stage will."""
    load = loader(spec.text_format)
    available = facts.data(spec.data, load).available
    if not available or available > DOCUMENTS or spec.model.shape is None:
        return None
    with contextlib.suppress(ImportError, DataError):
        texts = [example.conversation[0] for example in load(spec.data)]
        return trained_bpe(texts, spec.model.shape.vocab_size - 1), bool(BOS), bool(EOS)
    return None


def _folder(model: ModelSpec) -> Path | None:
    """Return where the tokenizer of a model is on this machine: its folder, or the hub's cache."""
    here = expanded(model.path)
    if (here / "tokenizer.json").is_file():
        return here
    with contextlib.suppress(ImportError, ValueError, OSError):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model.path, "tokenizer.json", revision=model.revision)
        return Path(cached).parent if isinstance(cached, str) else None
    return None


def _saved(folder: Path) -> tuple[Any, int, int] | None:
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    except Exception:  # noqa: BLE001 - the library raises nothing narrower; the job will say it
        return None
    special = [token_of(settings, name) is not None for name in ("bos_token", "eos_token")]
    return tokenizer, special[0], special[1]


def _by(tokenizer: Any) -> Count:
    tokenizer.encode_special_tokens = True  # data that spells one out is plain text
    tokenizer.no_truncation()

    def count(texts: Sequence[str]) -> list[int]:
        batch = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in batch]

    return count


def _guess(texts: Sequence[str]) -> list[int]:
    return [-(-len(text) // CHARACTERS) for text in texts]


LENGTH_CHECKS: tuple[Check, ...] = (check_lengths,)
