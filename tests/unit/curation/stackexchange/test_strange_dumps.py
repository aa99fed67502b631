"""Dumps as strangers have them: forbidden characters, odd scores, sites that nobody lists."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lima.curation.candidates.candidate import Candidate
from lima.curation.stackexchange.dump import find_dumps
from lima.curation.stackexchange.posts_by_question import split
from lima.curation.stackexchange.threads import read_partition
from lima.curation.stackexchange.xml_rows import REPLACED
from lima.curation.stage import Curation
from lima.curation.trace import CurationRun
from lima.errors import DataError
from lima.runs.ledger import record_run
from lima.spec.curate import ArmSpec, CurateSpec, FilterSpec, PartSpec, SourceSpec
from lima.store.storage import Storage
from tests.helpers.curation import dumps
from tests.helpers.curation.curating import cell, curate, do_unit

Read = Callable[..., tuple[list[Candidate], dict[str, int]]]
LOOSE = FilterSpec(description_share=0.0)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(data: bytes, **more: Any) -> tuple[list[Candidate], dict[str, int]]:
        folder = dumps.write_folder(tmp_path / "in" / dumps.SITE, {"Posts": data})
        spec = dumps.spec(folder, filters=LOOSE, **more)
        (dump,) = find_dumps([str(folder)])
        aside = tmp_path / f"aside-{len(list(tmp_path.iterdir()))}"
        site = split(dump, aside, spec, dialogues=False)
        found = [c for p in site.partitions for c in read_partition(site, p, spec)]
        return found, dict(site.damage.counts)

    return read


FORBIDDEN = ["&#x0E;", "&#14;", "&#x0;", "&#xFFFE;", "&#xd800;", "&#x110000;", "\x0e", "\ufffe"]


@pytest.mark.parametrize("character", FORBIDDEN, ids=ascii)
def test_a_character_that_xml_forbids_costs_no_question(read: Read, character: str) -> None:
    rows = [dumps.question(1), dumps.answer(2, 1), dumps.question(3), dumps.answer(4, 3)]
    rows[1] = rows[1].replace("careful", f"care{character}ful", 1)
    found, damage = read(dumps.document(rows))

    assert [c.reasons for c in found] == [(), ()]
    assert "care\ufffdful" in found[0].conversation[1]
    assert "\ufffd" not in found[1].conversation[1]
    assert damage == {REPLACED: 1}
    with pytest.raises(DataError, match="forbids"):
        read(dumps.document(rows), strict=True)


@pytest.mark.parametrize("score", ["abc", "", "--5", "5.5", "1e3", "²", "9" * 40])
def test_a_score_that_is_no_number_is_damage_and_not_0(read: Read, score: str) -> None:
    rows = [
        *(dumps.question(1), dumps.answer(2, 1, Score=score), dumps.answer(3, 1, Score=-2)),
        *(dumps.question(5, Score=score), dumps.answer(6, 5)),
    ]
    found, damage = read(dumps.document(rows))

    assert damage == {"Score is not a whole number": 2}
    assert {c.source_id: c.reasons for c in found} == {
        "1/3": ("score",),
        "2": ("damaged",),
        "5": ("damaged",),
        "5/6": ("orphan",),
    }


def test_a_score_may_be_written_in_single_quotes(read: Read) -> None:
    rows = [dumps.question(1), dumps.answer(2, 1).replace('Score="15"', "Score='15'")]
    found, damage = read(dumps.document(rows))
    assert (found[0].measures["answer_score"], damage) == (15, {})


def sites(folder: Path, *names: str) -> Path:
    for name in names:
        rows = [dumps.question(1, f"What is {name} good for?"), dumps.answer(2, 1)]
        dumps.write_folder(folder / name, {"Posts": dumps.document(rows)})
    return folder


def test_a_site_that_no_list_names_is_named(tmp_path: Path) -> None:
    folder = sites(tmp_path / "in", "conlang.meta.stackexchange.com", "es.stackoverflow.com")
    arm = ArmSpec("train", (PartSpec("stackexchange-stem", 1),))
    spec = dumps.spec(folder, arms=(arm,), filters=LOOSE)
    with pytest.raises(DataError) as caught:
        curate(spec, tmp_path / "out")
    for told in (
        "1 candidates of conlang.meta.stackexchange.com",
        "stackexchange-unlisted",
        "1 candidates of es.stackoverflow.com",
        "stackexchange-other-languages",
        "curate.sites",
    ):
        assert told in str(caught.value)
    assert "check the paths" not in str(caught.value)

    storage = Storage(str(tmp_path / "out"))
    record_run(storage, cell(spec), "curate")
    (found,) = CurationRun(storage).why("conlang.meta.stackexchange.com/1")
    (why,) = found.not_drawn
    assert "stackexchange-unlisted" in why
    assert "curate.sites" in why

    own = tmp_path / "sites.yaml"
    own.write_text(
        "stem: [conlang.meta.stackexchange.com, es.stackoverflow.com]\nother: []\ndropped: []\n"
    )
    (listed,) = curate(
        dumps.spec(folder, arms=(arm,), filters=LOOSE, sites=str(own)), tmp_path / "own"
    )["arms"]
    assert listed["examples"] == 1


def test_counts_are_of_all_sources(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 3)
    spec = CurateSpec(
        (SourceSpec("examples", (str(tmp_path / "a.jsonl"),)),),
        (ArmSpec("train", (PartSpec("examples"),)),),
    )
    curation = Curation(cell(spec), Storage(str(tmp_path / "out")))
    (unit,) = curation.units()
    assert curation.read_source(unit) == {"shards": 1, "candidates": 3, "kept": 3}
    do_unit(curation, unit)
