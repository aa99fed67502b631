"""Dumps to candidates: the join of far posts, names, prompts, dialogues, every form of file."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lima.curation.candidates.candidate import Candidate
from lima.curation.reading.damage import Damage
from lima.curation.stackexchange.dump import find_dumps
from lima.curation.stackexchange.posts_by_question import RANGE, split
from lima.curation.stackexchange.threads import is_dialogue, read_partition
from lima.curation.stackexchange.xml_rows import split_tags
from lima.errors import DataError
from lima.spec.curate import FilterSpec
from tests.helpers.curation import dumps

Read = Callable[..., list[Candidate]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read all candidates of a folder of dumps."""
    spills = iter(range(1000))

    def run(
        folder: Path, *, dialogues: bool = False, damage: Damage | None = None, **more: object
    ) -> list[Candidate]:
        spec = dumps.spec(folder, **more)
        found: list[Candidate] = []
        for dump in find_dumps([str(folder)]):
            spill = tmp_path / f"spill-{next(spills)}"
            site = split(dump, spill, spec, dialogues=dialogues)
            for partition in site.partitions:
                found += read_partition(site, partition, spec)
            if damage:
                damage.merge([site.damage])
        return found

    return run


def _folder(tmp_path: Path, *posts: str, **tables: bytes) -> Path:
    named = {name.capitalize(): data for name, data in tables.items()}
    dumps.write_folder(tmp_path / "in" / dumps.SITE, {"Posts": dumps.document(posts), **named})
    return tmp_path / "in"


def test_a_question_is_joined_with_its_top_answer(tmp_path: Path, read: Read) -> None:
    folder = _folder(
        tmp_path,
        dumps.answer(9, 1, Score=12),  # before its question
        dumps.question(1),
        dumps.answer(2, 1, Score=30),
        dumps.answer(3, 1, Score=30),
        dumps.answer(4, 1, Score=-2),
    )
    (found,) = read(folder, filters=FilterSpec(description_share=0.0))
    assert (found.source_id, found.keep, found.score) == ("1/2", True, 20)
    assert found.passed_over == ("3:30", "9:12", "4:-2"), (
        "of equal scores, the earlier one is first"
    )
    assert found.conversation[0] == "What is thing number 1 good for?"
    assert found.conversation[1].startswith("Number 2: a careful answer")
    assert found.measures["answers"] == 4
    assert found.measures["characters"] == len(found.conversation[1])
    assert found.tags == ("a", "b-c")
    assert found.provenance.url == f"https://{dumps.SITE}/a/2"


def test_an_answer_years_later_meets_its_question(tmp_path: Path, read: Read) -> None:
    far = 40 * RANGE + 5
    folder = _folder(
        tmp_path,
        dumps.question(1),
        dumps.question(RANGE + 1),
        dumps.answer(far, 1),
        dumps.answer(far + 1, RANGE + 1),
    )
    assert [c.source_id for c in read(folder)] == [f"1/{far}", f"{RANGE + 1}/{far + 1}"]


def test_orphans_other_types_and_unanswered_questions_are_candidates_too(
    tmp_path: Path, read: Read
) -> None:
    folder = _folder(
        tmp_path,
        dumps.question(1),
        dumps.answer(2, 77),
        dumps.question(3, PostTypeId=5),
        dumps.row(Id=4, PostTypeId=4, CreationDate="2016-08-02T15:39:14.947", Body="wiki"),
    )
    reasons = {c.source_id: c.reasons for c in read(folder)}
    assert reasons == {
        "1": ("no_answer",),
        "77/2": ("orphan",),
        "3": ("other_type",),
        "4": ("other_type",),
    }


def test_both_encodings_of_tags() -> None:
    assert split_tags("<c++><machine-learning>") == ("c++", "machine-learning")
    assert split_tags("|c++|machine-learning|") == ("c++", "machine-learning")
    assert split_tags("") == ()


def test_authors_are_named_linked_or_deleted(tmp_path: Path, read: Read) -> None:
    posts = (
        dumps.question(1, OwnerUserId=7),
        dumps.answer(2, 1, OwnerUserId="", OwnerDisplayName="user23"),
        dumps.question(3, OwnerUserId=-1),
        dumps.row(Id=4, PostTypeId=2, ParentId=3, Score=1, Body="<p>b</p>"),
        dumps.question(5, OwnerUserId=99),
    )
    users = [dumps.user(9, "Nine"), dumps.user(7, "Ada & “Co”"), dumps.user(-1, "Community")]
    folder = _folder(tmp_path, *posts, users=dumps.document(users, "users"))
    authors = {c.source_id: c.provenance.authors for c in read(folder)}
    assert authors == {
        "1/2": (f"Ada & “Co” <https://{dumps.SITE}/users/7>", "user23"),
        "3/4": (f"Community <https://{dumps.SITE}/users/-1>", "a deleted user"),
        "5": (f"user 99 <https://{dumps.SITE}/users/99>",),
    }


def test_licence_is_the_posts_own_or_follows_from_its_date(tmp_path: Path, read: Read) -> None:
    folder = _folder(
        tmp_path,
        dumps.question(1, CreationDate="2010-01-01T00:00:00.000"),
        dumps.answer(2, 1, CreationDate="2015-01-01T00:00:00.000"),
        dumps.question(3, ContentLicense="CC BY-SA 4.0"),
        dumps.answer(4, 3, CreationDate="2018-05-02T00:00:00.000"),
    )
    licences = [c.provenance.licence for c in read(folder)]
    assert licences == ["CC BY-SA 2.5 / CC BY-SA 3.0", "CC BY-SA 4.0"]


def test_prompts_are_titles_or_descriptions_by_seed(tmp_path: Path, read: Read) -> None:
    folder = _folder(tmp_path, *(dumps.question(n) for n in range(1, 201)))

    def descriptions(seed: int, share: float) -> list[str]:
        filters = FilterSpec(description_share=share)
        found = read(folder, seed=seed, filters=filters)
        for candidate in found:
            described = candidate.conversation[0].startswith("What about thing")
            assert candidate.measures["description"] == described
        return [c.source_id for c in found if c.measures["description"]]

    half = descriptions(0, 0.5)
    assert 70 <= len(half) <= 130
    assert descriptions(0, 0.5) == half
    assert descriptions(1, 0.5) != half
    assert set(descriptions(0, 0.25)) < set(half), "a smaller share is a part of a larger one"
    assert descriptions(0, 0) == []
    assert len(descriptions(0, 1)) == 200


def test_descriptions_that_cannot_stand_alone_give_way_to_the_title(
    tmp_path: Path, read: Read
) -> None:
    folder = _folder(
        tmp_path,
        dumps.question(1, Body="<p>Short.</p>"),
        dumps.question(2, Body=f"<p>{'long ' * 300}</p>"),
        dumps.question(3, Body="<p>What is this, that is in the picture here?</p><img src='x'>"),
        dumps.question(4, Body="<p>What is this, that <b>never closes, however long?</p>"),
        dumps.question(5, Title="", Body="<p>Only words</p>"),
        dumps.question(6, Body="<p>Is it as in <a href='x'>this question</a>, only larger?</p>"),
        dumps.question(7, Body="<p>The other question is answered, but why is it so here?</p>"),
        dumps.question(8, Body="<p>Some previous question asked it, yet what is it at all?</p>"),
        dumps.question(9, Body="<p>What does this mean, and how is it done, in some words?</p>"),
    )
    found = read(folder, filters=FilterSpec(description_share=1.0))
    assert [c.measures["description"] for c in found] == [0, 0, 0, 0, 1, 0, 1, 0, 1]


def _talk() -> tuple[list[str], list[str]]:
    posts = [
        dumps.question(1, OwnerUserId=7, Body="<p>Why is it so, in more words?</p>"),
        dumps.answer(2, 1, OwnerUserId=8, CommentCount=8),
        dumps.answer(3, 1, OwnerUserId=9, CommentCount=2),
    ]
    comments = [
        dumps.comment(1, 2, 8, "I may add a remark."),
        dumps.comment(2, 2, 7, "@Bo Thanks, but [why](https://x.y/z) so?"),
        dumps.comment(3, 2, 5, "@Ada I know it too."),
        dumps.comment(4, 2, 8, "@Ada: because of `x`."),
        dumps.comment(5, 2, 8, "And see https://x.y for more."),
        dumps.comment(6, 2, 7, "@Carl you are wrong."),
        dumps.comment(7, 2, 7, "Is it &quot;always&quot; so?"),
        dumps.comment(8, 2, 8, "Yes."),
        dumps.comment(9, 2, 7, "Thanks!"),
        dumps.comment(10, 3, 7, "No talk."),
        dumps.comment(11, 3, 9, "None."),
        dumps.comment(12, 77, 7, "To a post that is gone."),
    ]
    return posts, comments


def test_comments_by_turns_are_a_dialogue(tmp_path: Path, read: Read) -> None:
    posts, comments = _talk()
    users = [dumps.user(7, "Ada"), dumps.user(8, "Bo B"), dumps.user(5, "Carl")]
    folder = _folder(
        tmp_path,
        *posts,
        comments=dumps.document(comments, "comments"),
        users=dumps.document(users, "users"),
    )
    (found,) = filter(is_dialogue, read(folder, dialogues=True))
    assert found.source_id == "1/2/comments"
    assert (
        found.conversation[0] == "What is thing number 1 good for?\n\nWhy is it so, in more words?"
    )
    assert found.conversation[2:] == (
        "Thanks, but why so?",
        "because of `x`.\n\nAnd see for more.",
        'Is it "always" so?',
        "Yes.",
    )
    assert found.measures["turns"] == 4
    assert found.measures["left_out"] == 4
    assert found.keep
    longer = replace(FilterSpec(), min_dialogue_turns=5)
    assert not any(map(is_dialogue, read(folder, dialogues=True, filters=longer)))
    assert not any(map(is_dialogue, read(folder)))


def test_talk_about_the_page_is_dropped_by_name(tmp_path: Path, read: Read) -> None:
    posts, comments = _talk()
    comments[7] = dumps.comment(8, 2, 8, "Yes, see my answer as it is now.")
    users = [dumps.user(7, "Ada"), dumps.user(8, "Bo B"), dumps.user(5, "Carl")]
    folder = _folder(
        tmp_path,
        *posts,
        comments=dumps.document(comments, "comments"),
        users=dumps.document(users, "users"),
    )
    (found,) = filter(is_dialogue, read(folder, dialogues=True))
    assert found.reasons == ("talk_references",)
    loose = FilterSpec(max_references=1)
    (found,) = filter(is_dialogue, read(folder, dialogues=True, filters=loose))
    assert found.keep


TABLES_OF_A_TALK = ("Posts", "Comments", "Users")


def _forms(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    posts, comments = _talk()
    posts += [text for n in range(10, 60) for text in (dumps.question(n), dumps.answer(n + 100, n))]
    users = [dumps.user(7, "Ada"), dumps.user(8, "Bo")]
    tables = {
        "Posts": dumps.document(posts),
        "Comments": dumps.document(comments, "comments"),
        "Users": dumps.document(users, "users"),
        "Badges": dumps.document([], "badges"),
    }
    dumps.write_folder(tmp_path / "xml" / dumps.SITE, tables)
    dumps.write_folder(tmp_path / "gz" / dumps.SITE, tables, packed=True)
    dumps.write_7z(tmp_path / "7z" / f"{dumps.SITE}.7z", tables)
    dumps.write_7z(tmp_path / "bzip2" / f"{dumps.SITE}.7z", tables, "bzip2")
    for name in TABLES_OF_A_TALK:
        dumps.write_7z(tmp_path / "apart" / f"{dumps.SITE}-{name}.7z", {name: tables[name]})
    recoded = {
        name: data.decode("utf-8-sig").replace("utf-8", "utf-16").encode("utf-16")
        for name, data in tables.items()
    }
    dumps.write_folder(tmp_path / "utf-16" / dumps.SITE, recoded)
    for name in ("xml", "gz", "7z", "bzip2", "apart", "utf-16"):
        yield name, tmp_path / name


def test_every_form_of_a_dump_gives_the_same_candidates(tmp_path: Path, read: Read) -> None:
    found = {name: read(folder, dialogues=True) for name, folder in _forms(tmp_path)}
    expected = found.pop("xml")
    assert len(expected) == 52
    for name, candidates in found.items():
        assert candidates == expected, name


def test_the_independent_script_agrees_on_real_dumps(shared_data: Path, read: Read) -> None:
    from tests.independent.stackexchange import judge

    folder = shared_data / "stackexchange"
    for dump in find_dumps([str(folder)]):
        reasons, measured = judge(folder / dump.site)
        candidates = read(folder / dump.site)
        counted = Counter(reason for c in candidates for reason in c.reasons or ("kept",))
        assert counted == reasons, dump.site
        answered = {c.source_id: c for c in candidates if c.source_id in measured}
        assert answered.keys() == measured.keys(), "the top answer of every question"
        for name, theirs in measured.items():
            text = theirs.pop("text")
            mine = answered[name]
            assert {key: mine.measures[key] for key in theirs} == theirs, (dump.site, name)
            assert (mine.conversation[1:] or ("",))[0] == text, (dump.site, name)


def test_kept_answers_of_real_dumps_hold_no_leftovers(shared_data: Path, read: Read) -> None:
    kept = [c for c in read(shared_data / "stackexchange") if c.keep]
    assert len(kept) >= 10
    for candidate in kept:
        assert 1200 <= len(candidate.conversation[1]) <= 4096
        assert not any(
            mark in candidate.conversation[1] for mark in ("</", "<p>", "&lt;", "&#", "http")
        )
        assert candidate.provenance.licence.startswith("CC BY-SA")
        assert candidate.provenance.created is not None


def test_paths_without_a_dump_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.xml").write_bytes(b"<x/>")
    with pytest.raises(DataError, match=r"no SITE\.7z and no folder with Posts\.xml"):
        find_dumps([str(tmp_path)])
    with pytest.raises(DataError, match="no such file"):
        find_dumps([str(tmp_path / "absent")])


def test_a_second_dump_of_a_site_is_refused_and_not_left_out(tmp_path: Path) -> None:
    first, second = (
        dumps.write_folder(tmp_path / year / "a.stackexchange.com", {"Posts": dumps.document([])})
        for year in ("2018", "2023")
    )
    with pytest.raises(DataError, match=r"two files with the Posts of a\.stackexchange") as error:
        find_dumps([str(tmp_path)])
    assert f"{first / 'Posts.xml'} and {second / 'Posts.xml'}" in str(error.value)
    assert [dump.site for dump in find_dumps([str(second)])] == ["a.stackexchange.com"]


def test_sites_are_found_once_and_in_order(tmp_path: Path) -> None:
    posts = {"Posts": dumps.document([])}
    dumps.write_7z(tmp_path / "b.stackexchange.com.7z", posts)
    dumps.write_folder(tmp_path / "a.stackexchange.com", posts)
    dumps.write_folder(tmp_path / "no-posts.stackexchange.com", {"Users": dumps.document([])})
    names = [dump.site for dump in find_dumps([str(tmp_path)])]
    assert names == ["a.stackexchange.com", "b.stackexchange.com"]
