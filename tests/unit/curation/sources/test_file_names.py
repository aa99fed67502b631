"""Files of the same name are told apart, whatever their folders, suffixes, kinds and sources."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lima.curation.reading.damage import Damage
from lima.curation.sources.kinds import read_source
from lima.errors import DataError
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec, Split
from tests.helpers.curation.curating import curate

WORDS = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "juniper")


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _rows(start: int, count: int) -> list[dict[str, Any]]:
    """Return examples that share no eight words with those of another start."""
    numbers = range(start, start + count)
    texts = [" ".join(f"{word}{n}" for word in WORDS) for n in numbers]
    return [{"instruction": f"Tell of {t}", "output": f"Of {t[::-1]}"} for t in texts]


def _ids(spec: CurateSpec) -> list[str]:
    found = [c for source in spec.sources for c in read_source(source, spec, Damage(strict=True))]
    assert len({c.key for c in found}) == len({(c.key, c.conversation) for c in found})
    return [c.source_id for c in found]


def _spec(root: Path, *sources: SourceSpec) -> CurateSpec:
    return CurateSpec(sources, (), root=str(root))


def _source(kind: str, *paths: str, pool: str = "") -> SourceSpec:
    return SourceSpec(kind, tuple(paths), pool=pool)


def test_the_shortest_path_tells_files_apart_wherever_the_root_lies(tmp_path: Path) -> None:
    names = "x/train.jsonl", "x/train.json", "y/train.jsonl", "y/b/own.jsonl", "z/b/own.jsonl"
    ids = []
    for root in (tmp_path / "here", tmp_path / "far" / "x"):
        for at, name in enumerate((*names, "train.jsonl", "alone.jsonl")):
            _write(root / "same" / name, _rows(at, 1))
        ids.append(_ids(_spec(root, _source("examples", "same"))))
    assert ids[0] == ids[1]
    assert sorted(ids[0]) == [
        *("alone:0", "same/train:0", "x/train.json:0", "x/train.jsonl:0", "y/b/own:0"),
        *("y/train:0", "z/b/own:0"),
    ]


def test_files_of_all_sources_are_told_apart(tmp_path: Path) -> None:
    for at, name in enumerate(("one", "two", "three", "authored/two")):
        _write(tmp_path / name / "mine.jsonl", _rows(2 * at, 2))
    (tmp_path / "authored" / "two" / "mine.md").write_text("# User\n\np\n\n# Assistant\n\nr\n")
    spec = _spec(
        tmp_path,
        _source("alpaca", "one", str(tmp_path / "two")),
        _source("examples", "three/mine.jsonl"),
        _source("authored", "authored", pool="all"),
        _source("authored", "authored/two", pool="some"),
    )
    names = "one/mine", "two/mine.jsonl", "three/mine", "two/mine", "authored/two/mine"
    rows = [f"{name}:{row}" for name in names for row in (0, 1)]
    assert _ids(spec) == [*rows[:8], "two/mine", *rows[8:], "mine"]


def test_every_example_of_files_of_one_name_reaches_its_arm(tmp_path: Path) -> None:
    sizes: dict[Split, int] = {"train": 6, "dev": 3, "test": 4}
    for at, (name, size) in enumerate(sizes.items()):
        _write(tmp_path / "authored" / name / "mine.jsonl", _rows(10 * at, size))
    spec = CurateSpec(
        root=str(tmp_path),
        sources=tuple(_source("authored", f"authored/{name}", pool=name) for name in sizes),
        arms=tuple(
            ArmSpec(name, (PartSpec(name, count=size),), split=name) for name, size in sizes.items()
        ),
    )
    summary = curate(spec, tmp_path / "storage")
    assert {arm["name"]: arm["examples"] for arm in summary["arms"]} == sizes


@pytest.mark.parametrize("pools", [("a", "a"), ("a", "b")])
def test_two_texts_under_one_id_are_refused_with_their_places(
    tmp_path: Path, pools: tuple[str, str]
) -> None:
    one, two = ({**row, "id": "mine"} for row in _rows(0, 2))
    _write(tmp_path / "a" / "first.jsonl", [*_rows(5, 1), one])
    _write(tmp_path / "b" / "second.jsonl", [one, two])
    sources = [
        _source("authored", folder, pool=pool) for folder, pool in zip("ab", pools, strict=True)
    ]
    spec = CurateSpec(
        root=str(tmp_path),
        sources=tuple(sources),
        arms=(ArmSpec("arm", (PartSpec("a", count=1),)),),
    )
    with pytest.raises(DataError) as error:
        curate(spec, tmp_path / "storage")
    assert f"{tmp_path}/a/first.jsonl:2 and {tmp_path}/b/second.jsonl:2: " in str(error.value)
    assert "authored mine" in str(error.value)


@pytest.mark.parametrize("kind", ["examples", "alpaca", "authored"])
def test_tables_beside_files_of_rows_are_told(tmp_path: Path, kind: str) -> None:
    """Training would read them: nobody expects that half of a folder is left out."""
    _write(tmp_path / "mine" / "a.jsonl", _rows(0, 2))
    (tmp_path / "mine" / "deep").mkdir()
    (tmp_path / "mine" / "deep" / "b.parquet").write_bytes(b"PAR1")
    spec, damage = _spec(tmp_path, _source(kind, "mine")), Damage()
    assert len(list(read_source(spec.sources[0], spec, damage))) == 2
    assert damage.counts == {"a table, which curation does not read": 1}
    with pytest.raises(DataError, match=r"b\.parquet"):
        list(read_source(spec.sources[0], spec, Damage(strict=True)))
