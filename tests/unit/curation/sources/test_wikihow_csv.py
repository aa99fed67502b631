"""The public snapshots of wikiHow as CSV: every step a step, titles without numbers of parts."""

import csv
from pathlib import Path

import pytest

from lima.curation.candidates.candidate import Candidate
from lima.curation.reading.damage import Damage
from lima.curation.sources import wikihow


def read(path: Path, columns: list[str], *rows: list[str]) -> tuple[list[Candidate], Damage]:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([columns, *rows])
    damage = Damage()
    return list(wikihow.read([str(path)], damage=damage)), damage


ALL = ["headline", "title", "text"]


def test_a_row_a_part_of_an_article(tmp_path: Path) -> None:
    found, damage = read(
        tmp_path / "wikihowAll.csv",
        ALL,
        [
            "\nKeep related supplies in the same area.,\nMake room for a desk.,\nClean up.",
            "How to Be an Organized Artist1",
            " Paints go with brushes.\n, A desk needs light; and air.\n\n"
            "And a chair.;\n, Wipe it.\n",
        ],
        [
            "\nWrite a list.,\nCross it off.",
            "How to Be an Organized Artist2",
            "On paper.\n,Done.\n",
        ],
        ["\nPress play.", "How to Use an MP3", " Listen.\n"],
        ["\nOpen it.,\nClose it.", "How to Save an MP31", " One text for both.\n"],
        ["\nBuy it.", "How to Save an MP32", " In a shop.\n"],
    )

    assert [c.conversation[0] for c in found] == [
        "How to be an organized artist?",
        "How to use an MP3?",
        "How to save an MP3?",
    ]
    assert [c.conversation[1] for c in found] == [
        "## Part 1\n\n"
        "1. Keep related supplies in the same area. Paints go with brushes.\n"
        "2. Make room for a desk. A desk needs light; and air.\n\n\tAnd a chair.\n"
        "3. Clean up. Wipe it.\n\n"
        "## Part 2\n\n1. Write a list. On paper.\n2. Cross it off. Done.",
        "1. Press play. Listen.",
        "## Part 1\n\nOne text for both.\n\n1. Open it.\n2. Close it.\n\n"
        "## Part 2\n\n1. Buy it. In a shop.",
    ]
    assert not damage.counts


@pytest.mark.parametrize(
    ("titles", "articles"),
    [
        ([f"Build a Shed{n}" for n in range(1, 13)], {"build a shed": 12}),
        ([f"Save an MP3{n}" for n in range(1, 13)], {"save an MP3": 12}),
        (["Fold1", "Fold3", "Fold12", "Fold a Cup1", "Fold a Cup2"], {"fold": 3, "fold a cup": 2}),
        (["Fold2", "Fold3"], {"fold": 2}),
        (
            ["Fly1", "Fly2", "Rip a Cd to Mp3", "Use Python3"],
            {"fly": 2, "rip a cd to Mp3": 1, "use Python3": 1},
        ),
        (
            ["Weigh Co2", "Write Html5", "Use an MP3", "Use an MP4"],
            {"weigh Co2": 1, "write Html5": 1, "use an MP3": 1, "use an MP4": 1},
        ),
    ],
)
def test_numbers_of_parts_are_those_that_neighbours_count(
    tmp_path: Path, titles: list[str], articles: dict[str, int]
) -> None:
    rows = [["\nStep.", f"How to {title}", " So.\n"] for title in titles]
    found, damage = read(tmp_path / "wikihowAll.csv", ALL, *rows)

    told = {c.conversation[0]: c.conversation[1].count("1. Step. So.") for c in found}
    assert told == {f"How to {name}?": parts for name, parts in articles.items()}
    assert not damage.counts


def test_a_row_a_step_without_debris(tmp_path: Path) -> None:
    columns = ["overview", "headline", "text", "sectionLabel", "title"]
    found, damage = read(
        tmp_path / "wikihowSep.csv",
        columns,
        ["So it goes.", "\nBoil water.", ";\n", "Steps", "How to Boil an Egg"],
        ["", "\nAdd the egg;\n", " Wait.;\n\nThen; wait more.;\n", "Steps", "How to Boil an Egg"],
        ["", "\nPeel it", "\n;Slowly.", "After", "How to Boil an Egg"],
    )

    (egg,) = found
    assert egg.conversation[1] == (
        "So it goes.\n\n## Steps\n\n1. Boil water.\n2. Add the egg. Wait.\n\n\tThen; wait more.\n\n"
        "## After\n\n1. Peel it. Slowly."
    )
    assert not damage.counts


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["title", "headline", "text", "summary"], "columns summary"),
        (["Title", "Text"], "columns Text, Title"),
        (["title", "category"], "neither headline nor text"),
    ],
)
def test_other_columns_are_refused(tmp_path: Path, columns: list[str], told: str) -> None:
    found, damage = read(tmp_path / "a.csv", columns, ["x"] * len(columns))
    assert not found
    assert damage.counts == {"not the columns of wikiHow articles": 1}
    assert told in damage.examples["not the columns of wikiHow articles"][0]
