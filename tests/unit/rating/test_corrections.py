"""Labels that are imported again, in part otherwise: the later word counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from lima.rating.labels import Label, read_labels
from lima.spec.codec import sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS
from lima_k8s.main import run
from tests.unit.rating.test_labels import RECORD

FIRST = [{**RECORD, "prompt": f"Why {n}?", "label": "A"} for n in range(3)]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "storage"))


def bring(storage: Storage, name: str, *records: dict[str, Any]) -> dict[str, str | None]:
    """Import a file; return what counts then, by prompt."""
    path = Path(storage.uri).parent / name
    path.write_text("\n".join(map(json.dumps, records)), "utf-8")
    options = ["--experiment", "e", "--new", "experiment"]
    assert run(["import-labels", storage.uri, str(path), *options]) == 0
    return {label.prompt_key: label.value for label in standing(storage)}


def standing(storage: Storage) -> list[Label]:
    return read_labels(Tables(storage))


def rows(storage: Storage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        Tables(storage).read(ANNOTATIONS, ["annotation_id", "prompt_key"]).to_pylist()
    )
    return found


def test_a_corrected_file(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    before = bring(storage, "labels.jsonl", *FIRST)
    mended = [FIRST[0], {**FIRST[1], "label": "B"}, FIRST[2]]
    after = bring(storage, "mended.jsonl", *mended)
    assert "2 of which were there already, 1 of which take the place of others" in (
        capsys.readouterr().err
    )
    assert sorted(before.values(), key=str) == ["2", "2", "2"]
    assert sorted(after.values(), key=str) == ["1", "2", "2"]
    assert len(rows(storage)) == 4, "what was said first is kept"
    assert bring(storage, "mended.jsonl", *mended) == after
    assert bring(storage, "labels.jsonl", *FIRST) == after
    assert "1 of which later files have corrected" in capsys.readouterr().err
    again = bring(storage, "third.jsonl", {**FIRST[1], "label": "neither"})
    assert sorted(again.values(), key=str) == ["2", "2", "tie"]
    for number, label in enumerate("ABA"):  # whatever was said before, the last file counts
        said = {**FIRST[1], "label": label}
        counts = bring(storage, f"{number}.jsonl", said, {**FIRST[2], "prompt": f"{number}?"})
        assert sorted(counts.values(), key=str)[0] == {"A": "2", "B": "1"}[label]


def test_a_corrected_export(storage: Storage) -> None:
    """A line with the id of a label is about that label, whoever gave it and where."""
    bring(storage, "labels.jsonl", *FIRST)
    prompt = sha256_key([FIRST[1]["prompt"]])
    [told] = {row["annotation_id"] for row in rows(storage) if row["prompt_key"] == prompt}
    mended = {**FIRST[1], "label": "B", "annotation_id": told}
    assert sorted(bring(storage, "mended.jsonl", mended).values(), key=str) == ["1", "2", "2"]
    other = {**mended, "label": "neither"}
    after = bring(storage, "again.jsonl", other)
    assert sorted(after.values(), key=str) == ["2", "2", "tie"]
    # An export that has grown holds the event of before, which was corrected since.
    assert bring(storage, "grown.jsonl", {**FIRST[1], "annotation_id": told}) == after


def test_the_other_order_corrects_nothing(storage: Storage) -> None:
    one = {**FIRST[0], "shown": "12"}
    bring(storage, "one.jsonl", one)
    bring(storage, "other.jsonl", {**one, "shown": "21", "label": "A"})
    assert sorted(str(label.value) for label in standing(storage)) == ["1", "2"]


def test_what_a_file_confirms_is_not_corrected_by_another_line(storage: Storage) -> None:
    """Two showings of an item, told in another order, and the first of them corrected."""
    one, two = FIRST[0], {**FIRST[0], "label": "B"}
    bring(storage, "one.jsonl", one, two)
    bring(storage, "other.jsonl", two, {**one, "label": "neither"})
    assert sorted(str(label.value) for label in standing(storage)) == ["1", "tie"]


def test_a_file_of_before_corrects_nothing_that_came_after(storage: Storage) -> None:
    bring(storage, "old.jsonl", FIRST[0])
    after = bring(storage, "new.jsonl", {**FIRST[0], "label": "B"})
    assert bring(storage, "old.jsonl", FIRST[0]) == after
    assert set(after.values()) == {"1"}


def test_another_rater_corrects_nothing(storage: Storage) -> None:
    bring(storage, "ann.jsonl", FIRST[0])
    bring(storage, "bob.jsonl", {**FIRST[0], "rater": "bob", "label": "B"})
    assert sorted(str(label.value) for label in standing(storage)) == ["1", "2"]


def test_names_that_only_look_like_others_are_told(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    bring(storage, "ann.jsonl", FIRST[0], {**FIRST[0], "rater": "Ann"})
    assert run(["agreement", storage.uri]) == 0
    assert "raters 'Ann' and 'ann' are counted as different people" in capsys.readouterr().err


def test_blanks_around_a_name_are_refused(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(storage.uri).parent / "blanks.jsonl"
    path.write_text(json.dumps({**FIRST[0], "rater": "ann "}), "utf-8")
    options = ["--experiment", "e", "--new", "experiment"]
    assert run(["import-labels", storage.uri, str(path), *options]) == 2
    assert "rater 'ann '" in capsys.readouterr().err
