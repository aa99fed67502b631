"""What trimming takes from training examples is told: by lint, the log, `runs` and the report."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.data.trimming import Lengths, histogram
from lima.evaluation.report.page import render_report
from lima.lint import Finding, lint
from lima.lint.facts import Facts
from lima.lint.lengths import MEASURED, Measured, measure
from lima.recipes.registry import load_study
from lima.runs.ledger import record_lengths, record_run
from lima.spec import CellSpec, DataSpec, ModelSpec, stage_cell
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import RUNS
from lima_k8s.main import run
from tests.helpers.models import make_base, small_cell
from tests.helpers.report_pages import figure
from tests.helpers.synthetic import Study, write_study


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def forty_eight(tmp_path: Path) -> str:
    """The data of a newcomer: 48 examples whose responses have 2,000 to 4,000 characters."""
    file = tmp_path / "mine.jsonl"
    sentence = "Water the plant when the soil is dry. "
    lines = [
        json.dumps({"conversations": [f"How do I do it {i}?", sentence * (53 + i)]})
        for i in range(48)
    ]
    file.write_text("\n".join(lines))
    return str(file)


def measured(cell: CellSpec, stage: str = "train") -> Measured:
    found = measure(cell, stage, Facts())
    assert found
    return found


def told(cell: CellSpec) -> Finding:
    [finding] = [f for f in lint([cell]) if "trimmed, which takes" in f.message]
    return finding


def test_lint_says_what_a_newcomers_examples_lose(base: Path, forty_eight: str) -> None:
    data = DataSpec(forty_eight)
    finding = told(small_cell(base, data=data, max_length=256))
    assert finding.level == "warning"
    assert "48 of 48 examples are longer than 256 tokens and trimmed" in finding.message
    assert "% of all tokens; 48 lose their end-of-turn token" in finding.message


def test_few_that_are_trimmed_are_a_note_and_none_is_no_word(base: Path) -> None:
    lengths = sorted(measured(small_cell(base, max_length=200)).lengths.tokens)
    assert told(small_cell(base, max_length=lengths[-2])).level == "warning"  # 1 of 10
    many = DataSpec("authored:howto")
    longest = sorted(measured(small_cell(base, data=many)).lengths.tokens)
    assert told(small_cell(base, data=many, max_length=longest[-2])).level == "note"
    clean = lint([small_cell(base, data=many, max_length=longest[-1])])
    assert not [f for f in clean if "trimmed, which takes" in f.message]


def test_lint_counts_as_training_does(base: Path) -> None:
    from lima.data.examples import training_examples
    from lima.model.loading import load_tokenizer
    from lima.training.batches import encode_examples, lengths_of

    cell = small_cell(base, data=DataSpec("authored:dialogue"), max_length=99)
    assert cell.train
    tokenizer, eot, _ = load_tokenizer(str(base), ModelSpec(str(base)))
    encoded = encode_examples(training_examples(cell.train.data), cell.train, tokenizer, eot)
    assert all(len(e.ids) <= 99 for e in encoded)
    assert measured(cell).lengths == lengths_of(encoded, cell.train)
    assert measured(cell).exact


def test_a_model_from_scratch_is_counted_by_the_tokenizer_that_it_will_have() -> None:
    from lima.data.examples import documents
    from lima.model.loading import scratch_tokenizer
    from lima.training.batches import encode_examples, lengths_of

    cell = load_study("tiny")[0]
    assert cell.base
    assert cell.base.model.shape
    examples = documents(cell.base.data)
    texts = [e.conversation[0] for e in examples]
    tokenizer, eot, _ = scratch_tokenizer(texts, cell.base.model.shape, cell.base.model)
    own = lengths_of(encode_examples(examples, cell.base, tokenizer, eot), cell.base)
    assert measured(cell, "base").lengths == own
    assert own.lost_ends == 0  # documents have no turns


def test_without_the_tokenizer_it_is_a_guess_and_that_is_said(forty_eight: str) -> None:
    cell = small_cell(Path("org/name"), data=DataSpec(forty_eight), max_length=256)
    finding = told(cell)
    assert "48 of 48" in finding.message
    assert "4 characters a token" in finding.message


def test_of_many_examples_the_first_are_measured(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    lines = [json.dumps({"conversations": [f"{i}?", "yes"]}) for i in range(MEASURED + 500)]
    file.write_text("\n".join(lines))
    found = measured(small_cell(base, data=DataSpec(str(file))))
    assert len(found.lengths.tokens) == MEASURED
    assert found.caveat == "the first 2,000 of 2,500"


def test_verbose_shows_a_histogram(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", "tiny", "--arm", "howto-32"]) == 0
    assert "tokens an example" not in capsys.readouterr().out
    assert run(["lint", "tiny", "--arm", "howto-32", "-v"]) == 0
    out = capsys.readouterr().out
    assert "train.data authored:howto: tokens an example, trimmed to 256\n" in out
    assert "█" in out
    assert run(["lint", "tiny", "--arm", "howto-32", "-v", "--format", "json"]) == 0
    lengths = json.loads(capsys.readouterr().out)["lengths"]
    assert [(found["stage"], found["ends_trimmed"]) for found in lengths] == [
        ("base", 0),
        ("train", 32),
    ]
    for found in lengths:
        assert sum(bar["examples"] for bar in found["bars"]) == found["examples"]


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=50))
def test_every_example_is_in_its_bar(tokens: list[int]) -> None:
    bars = histogram(Counter(tokens))
    assert len(bars) <= 16
    for first, last, count in bars:
        assert count == sum(first <= length <= last for length in tokens)


def test_the_row_of_a_run_learns_it_once(tmp_path: Path, base: Path) -> None:
    storage, cell = Storage(str(tmp_path)), small_cell(base)
    own = stage_cell(cell, "train")
    record_lengths(storage, own, Lengths((1,), 8))  # without a row there is nothing to add to
    record_run(storage, cell, "train")
    (before,) = Tables(storage).read(RUNS, ["created_at"]).to_pylist()
    record_lengths(storage, own, Lengths((10, 20, 30), 15))
    record_lengths(storage, own, Lengths((1,), 8))
    columns = ["created_at", "trimmed_examples", "trimmed_share", "ends_trimmed", "example_tokens"]
    (row,) = Tables(storage).read(RUNS, columns).to_pylist()
    assert row == {
        **before,
        "trimmed_examples": 2,
        "trimmed_share": pytest.approx(20 / 60),
        "ends_trimmed": 2,
        "example_tokens": [10, 20, 30],
    }


def test_the_report_draws_it(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study(stages=("train",), seeds=1))
    page = render_report(storage, note=pytest.fail)
    told = figure(page, "examples")
    assert "<svg" in told
    assert "100 of 1000 examples are longer than 2048 tokens and trimmed" in told
