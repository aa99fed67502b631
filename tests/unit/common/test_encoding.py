"""Files as people have them: packed, in another encoding; what is wrong is said as what it is."""

import gzip
import json
from pathlib import Path

import pytest

from lima.curation.reading.damage import Damage
from lima.curation.reading.record_files import records
from lima.data.examples import load_examples
from lima.errors import DataError, SpecError
from lima.generation.response_files import read_responses_file
from lima.lint import lint
from lima.recipes.demo import tiny
from lima.recipes.overrides import apply_overrides
from lima.recipes.registry import load_study
from lima.spec import DataSpec
from lima.spec.yamltext import load_yaml
from lima_k8s.main import run

LINE = json.dumps({"conversations": ["Où?", "À la gare."], "source": "x"}, ensure_ascii=False)


def test_packed_training_data_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl.gz"
    file.write_bytes(gzip.compress(f"{LINE}\n".encode()))
    (example,) = load_examples(DataSpec(str(file)))
    assert example.conversation == ("Où?", "À la gare.")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"mine\.jsonl\.gz: damaged gzip"):
        load_examples(DataSpec(str(file)))
    file.write_bytes(b"\x28\xb5\x2f\xfd...")
    with pytest.raises(DataError, match="damaged zstd"):
        load_examples(DataSpec(str(file)))


def test_another_encoding_is_called_that_wherever_text_is_read(tmp_path: Path) -> None:
    file = tmp_path / "latin.jsonl"
    file.write_bytes(LINE.encode("latin-1"))
    told = r"not UTF-8 \(byte \d+ is 0xf9; .*iconv -f LATIN1 -t UTF-8"
    with pytest.raises(DataError, match=told):
        load_examples(DataSpec(str(file)))
    with pytest.raises(SpecError, match=told):
        load_study(str(file))
    with pytest.raises(DataError, match=told):
        read_responses_file(str(file))
    damage = Damage()
    assert list(records(str(file), damage)) == []
    assert list(damage.counts) == ["not UTF-8"]


def test_labels_in_another_encoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_bytes('{"kind": "absolute", "rater": "Zoé"}\n'.encode("latin-1"))
    assert run(["import-labels", str(tmp_path / "st"), str(file), "--experiment", "e"]) == 2
    assert "not UTF-8" in capsys.readouterr().err


def test_keys_of_another_mapping_are_merged() -> None:
    text = "common: &c {a: 1, b: 2}\nmine:\n  <<: *c\n  b: 3\ntext: ['<<', <<]\n"
    found = load_yaml(text)
    assert found["mine"] == {"a": 1, "b": 3}
    assert found["text"] == ["<<", "<<"]


@pytest.mark.parametrize("uri", ["s3://", "~nobody-here/x", "foo://bucket"])
def test_a_storage_that_is_no_place_is_bad_input(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["submit", "train", "--local", "--recipe", "tiny", "--storage", uri]) == 2
    assert "error: " in capsys.readouterr().err


def test_advice_for_one_example_can_be_followed() -> None:
    cells = apply_overrides(tiny()[:1], ["train.data.count=1", "train.epochs=1"])
    (finding,) = [f for f in lint(cells) if "there is one step" in f.message]
    assert finding.fix == "more train.epochs"
