"""Files as people have them: packed, in another encoding; what is wrong is said as what it is."""

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from lima.curation.reading.damage import Damage
from lima.curation.reading.record_files import records
from lima.data.examples import load_examples
from lima.errors import DataError, InputError, SpecError
from lima.generation.response_files import read_responses_file
from lima.lint import lint
from lima.recipes.demo import tiny
from lima.recipes.overrides import apply_overrides
from lima.recipes.registry import load_study
from lima.spec import DataSpec
from lima.spec.yamltext import load_yaml
from lima_k8s.main import run
from lima_k8s.profile.assets import read_profile

LINE = json.dumps({"conversations": ["Où?", "À la gare."], "source": "x"}, ensure_ascii=False)
LABEL = json.dumps(
    {
        "kind": "absolute",
        "rater": "Zoé",
        "rater_group": "crowd",
        "label": "pass",
        "prompt": "Where?",
        "arm_1": "a",
    },
    ensure_ascii=False,
)


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


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-32", "UTF-32"),
        ("utf-32-be", "UTF-32BE"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_wide_encodings_of_labels_are_named_with_what_converts_them(
    tmp_path: Path, encoding: str, name: str, packed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file, text = tmp_path / "labels.jsonl", f"{LABEL}\n{LABEL}\n"
    data = text.encode(encoding)
    file.write_bytes(gzip.compress(data) if packed else data)
    storage = str(tmp_path / "st")
    imported = ["import-labels", storage, str(file), "--experiment", "e", "--new", "experiment"]
    assert run(imported) == 2
    error = capsys.readouterr().err
    assert f"labels.jsonl: not UTF-8 but {name}, in which" in error
    command = f"iconv -f {name} -t UTF-8"
    assert command in error
    converted = subprocess.run(command.split(), input=data, capture_output=True, check=True)
    file.write_bytes(converted.stdout)
    assert run(imported) == 0


def test_wide_encodings_wherever_text_is_read(tmp_path: Path) -> None:
    file = tmp_path / "wide.jsonl"
    # Without a mark, ASCII is UTF-8 all the same, with a zero after every letter.
    file.write_bytes('{"conversations": ["a", "b"]}\n'.encode("utf-16-le"))
    told = "not UTF-8 but UTF-16LE"
    with pytest.raises(DataError, match=told):
        load_examples(DataSpec(str(file)))
    with pytest.raises(SpecError, match=told):
        load_study(str(file))
    with pytest.raises(DataError, match=told):
        read_responses_file(str(file))
    with pytest.raises(InputError, match=told):
        read_profile(str(file))


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
