"""The filters of Stack Exchange: what their words match, and what they are called."""

from dataclasses import replace

import pytest

from lima.curation.stackexchange.filters import (
    answer_measures,
    first_person,
    objections,
    references,
    title_references,
    words,
)
from lima.curation.text.html import clean
from lima.spec.curate import FilterSpec

PASSING = {
    "answer_score": 10.0,
    "characters": 1200.0,
    "first_person": 0.0,
    "references": 0.0,
    "dangling": 0.0,
    "images": 3.0,
    "title_references": 0.0,
    "unclosed_tags": 0.0,
}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("I think so.", 1),
        ("So do I.", 1),
        ("I'm sure I’ve said (I did) “I” and I, too", 5),
        ("It is my idea. My own, told by me to Myself: Me", 5),
        ("World War I, Type I and Part I of Elizabeth I", 0),
        ("War and I", 1),
        ("I/O, I.e. and I-95, %I, +I, I&J, R.I.P.", 0),
        ("i is an index, mine is a pit; armies, time, myths", 0),
        ("In It Is II IV", 0),
        ("ME, MY, mE, MYSELF and some, Ümy, myé", 0),
        ("", 0),
    ],
)
def test_first_person(text: str, count: int) -> None:
    assert first_person(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("As mentioned in another answer", 2),
        ("as\u00a0mentioned is split by a space of another kind", 0),
        ("Jane's answer and Joe’s answer", 2),
        ("the answers", 1),
        ("the answer is 42", 0),
        ("Stack Exchange, stackoverflow, StackExchanges", 2),
        ("EDIT: so. Update: no", 2),
        ("credit: so", 0),
        ("@jane said; mail a@b.c at 3 @ 5", 1),
        ("see here. Here: look", 2),
        ("see hereafter", 0),
        ("(source)", 1),
        ("p.s. it is so", 1),
        ("It is so.\n\nEDIT\n\nIt is not.", 1),
        ("Edit the file", 0),
        ("Edited : so", 1),
        ("So.\n\n------ UPDATE------ so", 1),
        ("PS: so", 1),
        ("** Update 2 (2019): so", 1),
        ("EDIT — so", 1),
        ("[edit2] so", 1),
        ("Errata: so", 1),
        ("Update your packages\n\nupdate-alternatives is so\n\nPS3 is a console", 0),
        ("Edit-distance is so\n\nThe update: none", 1),
        ("This question is too broad", 1),
        ("It should be closed", 1),
        ("The road is too broad", 0),
        ("In your question, the signs are wrong", 1),
    ],
)
def test_references(text: str, count: int) -> None:
    assert references(text) == count


def test_every_phrase_is_found_as_whole_words_in_any_case() -> None:
    for phrase in (p for kind in words()["references"].values() for p in kind):
        alone = references(phrase)
        assert alone >= 1, phrase
        assert references(f"So, {phrase.upper()}, so") == alone, phrase
        if phrase[0].isalpha() and phrase[-1].isalpha():
            assert references(f"x{phrase}x") < alone, phrase


@pytest.mark.parametrize(
    ("title", "count"),
    [
        ("What is backpropagation?", 0),
        ("How do I write this?", 1),
        ("Which of the following is right [closed]", 2),
        ("Is there a thesis about hereditary things?", 0),
        ("Neural network", 1),
    ],
)
def test_title_references(title: str, count: int) -> None:
    assert title_references(title) == count


def test_code_and_formulas_hold_no_words() -> None:
    html = (
        "<p>Use <code>my.answer</code> and $I$.</p><pre><code>I = my # edit: see here</code></pre>"
    )
    measures = answer_measures(clean(html))
    assert measures["first_person"] == measures["references"] == 0


def test_each_filter_objects_by_its_own_name_beyond_its_bound() -> None:
    filters = FilterSpec()
    assert objections(PASSING, filters) == ()
    beyond = {
        "score": {"answer_score": 9.0},
        "too_short": {"characters": 1199.0},
        "too_long": {"characters": 4097.0},
        "first_person": {"first_person": 1.0},
        "references": {"references": 1.0},
        "dangling": {"dangling": 1.0},
        "title": {"title_references": 1.0},
        "broken_html": {"unclosed_tags": 1.0},
    }
    for name, change in beyond.items():
        assert objections({**PASSING, **change}, filters) == (name,)
    every = {key: value for change in beyond.values() for key, value in change.items()}
    assert set(objections({**PASSING, **every}, filters)) == set(beyond) - {"too_short"}
    assert objections({**PASSING, "characters": 4096.0}, filters) == ()


def test_bounds_are_those_of_the_spec() -> None:
    loose = FilterSpec(
        min_score=-5,
        min_characters=0,
        max_first_person=9,
        max_references=9,
        max_dangling=9,
        self_contained_titles=False,
    )
    worst = {
        **PASSING,
        "answer_score": -5.0,
        "characters": 1.0,
        "first_person": 9.0,
        "references": 9.0,
        "dangling": 9.0,
        "title_references": 9.0,
    }
    assert objections(worst, loose) == ()
    assert objections(worst, replace(loose, max_images=2)) == ("images",)
