"""The filters of Stack Exchange answers (section 2.1): what they measure and what they drop.

A filter is a measure, a bound and a name. All measures are stored, so that a bound can be judged
afterwards. Words are looked for in prose: not in code, not in formulas. The words themselves are
in `words.yaml`.
"""

import re
from collections import defaultdict
from functools import cache
from importlib import resources
from typing import Any

from lima.curation.text.html import CleanText, without_formulas
from lima.spec.curate import FilterSpec
from lima.spec.yamltext import load_yaml

MIN_TITLE_WORDS = 3
"""Of a title that says all; shorter ones are keywords."""


SHORT = "ps"
"""Of what begins a later edit: the end of so many words that it is sought after a mark only."""


@cache
def words() -> dict[str, Any]:
    """Return the word lists."""
    text = (resources.files("lima.curation.stackexchange") / "words.yaml").read_text("utf-8")
    loaded: dict[str, Any] = load_yaml(text)
    return loaded


def first_person(prose: str) -> int:
    """Return how many words of a text speak in the first person."""
    return sum(len(pattern.findall(prose)) for pattern in _first_person())


def references(prose: str) -> int:
    """Return how often a text refers to other answers, to people, to the site, or to pictures.

    Of a text that does not, lines that begin what was written later.
    """
    text = _plain(prose)
    automaton, phrases = _references()
    found = len(_MENTION.findall(text)) if "@" in text else 0
    later = text.startswith(SHORT)
    for number, start, end in automaton.find_matches_as_indexes(text, overlapping=True):
        if _is_whole(text, start, end):
            found += number < phrases
            later = later or number >= phrases
    # Sought at the beginnings of lines, which takes longer than all else: only where it may be.
    return found or (len(_post_editing().findall(text)) if later else 0)


def title_references(title: str) -> int:
    """Return how often a title points outside itself; a title of few words counts as one."""
    return _count(_phrases("title"), _plain(title)) + (len(title.split()) < MIN_TITLE_WORDS)


def description_references(description: CleanText) -> int:
    """Return how often a question's description points outside itself."""
    prose = without_formulas(description.prose)
    listed = _count(_phrases("description"), _plain(prose))
    return listed + references(prose) + description.dangling


def answer_measures(answer: CleanText) -> dict[str, float]:
    """Return what the filters measure of an answer's text."""
    prose = without_formulas(answer.prose)
    return {
        "characters": len(answer.text),
        "first_person": first_person(prose),
        "references": references(prose),
        "dangling": answer.dangling,
        "images": answer.images,
        "links": answer.links,
        "unclosed_tags": answer.unclosed,
        **{f"cut_{reason}": count for reason, count in answer.cut.items()},
    }


def objections(measures: dict[str, float], filters: FilterSpec) -> tuple[str, ...]:
    """Return the names of all filters that a question and its answer do not pass."""
    found = {
        "score": measures["answer_score"] < filters.min_score,
        "too_short": measures["characters"] < filters.min_characters,
        "too_long": measures["characters"] > filters.max_characters,
        "first_person": measures["first_person"] > filters.max_first_person,
        "references": measures["references"] > filters.max_references,
        "dangling": measures["dangling"] > filters.max_dangling,
        "images": filters.max_images is not None and measures["images"] > filters.max_images,
        "title": filters.self_contained_titles and measures["title_references"] > 0,
        "broken_html": measures["unclosed_tags"] > 0,
    }
    return tuple(name for name, objects in found.items() if objects)


def dialogue_objections(measures: dict[str, float], filters: FilterSpec) -> tuple[str, ...]:
    """Return the names of all filters that the talk below an answer does not pass.

    Two people who talk say "I"; what they say of the page that they write on has no place.
    """
    found = {
        "references": measures["references"] > filters.max_references,
        "talk_references": measures["talk_references"] > filters.max_references,
        "broken_html": measures["unclosed_tags"] > 0,
    }
    return tuple(name for name, objects in found.items() if objects)


_MENTION = re.compile(r"(?<![\w.])@[a-z]")


def _plain(text: str) -> str:
    return text.lower().replace("’", "'")


def _count(phrases: Any, text: str) -> int:
    """Count places with one of the phrases as whole words; its ends bound only where they are
    letters."""
    matches = phrases.find_matches_as_indexes(text, overlapping=True)
    return sum(_is_whole(text, start, end) for _, start, end in matches)


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether a place in a text is no part of longer words."""
    # What is outside is seldom part of a word, what is inside nearly always.
    if start > 0 and _is_word(text[start - 1]) and _is_word(text[start]):
        return False
    return not (end < len(text) and _is_word(text[end]) and _is_word(text[end - 1]))


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


@cache
def _first_person() -> tuple[re.Pattern[str], ...]:
    """Return patterns that each begin with one letter: found far faster than bounds of words."""
    capital, *others = words()["first_person"]
    not_numeral = "".join(f"(?<!{word} {capital})" for word in words()["numbered"])
    forms: defaultdict[str, list[str]] = defaultdict(list)
    for word in others:
        for initial in (word[0], word[0].upper()):
            forms[initial].append(rf"{word[1:]}(?<!\w{initial}{word[1:]})")
    return (
        re.compile(rf"{capital}(?<![\w/.&%+-]{capital}){not_numeral}(?!\w|[/&²-]|\.\w)"),
        *(re.compile(rf"{first}(?:{'|'.join(rest)})(?!\w)") for first, rest in forms.items()),
    )


@cache
def _post_editing() -> re.Pattern[str]:
    """Return the pattern of lines that begin what was written later."""
    listed = "|".join(re.escape(word) for word in words()["post_editing"])
    mark = r"[ >*_#=~(\[–—-]"
    number = r"(?:[#№]? ?\d[\d./-]*|\([^()\n]*\)|\[[^\[\]\n]*\])"
    end = r"(?:[:=~)\]]|[–—-](?=[\s–—-]|$)|(?<=s\.)|$)"  # a dash within a word is none
    return re.compile(
        rf"^{mark}*+(?:{listed})(?![^\W\d])[ *_]*+(?:{number}[ *_]*+){{0,2}}{end}", re.MULTILINE
    )


@cache
def _phrases(name: str) -> Any:
    """Return the automaton that finds all phrases of a list in one pass."""
    return _automaton(words()[name])


@cache
def _references() -> tuple[Any, int]:
    """Return the automaton of references and of what begins a later edit, and how many of its
    phrases are references."""
    listed = [phrase for phrases in words()["references"].values() for phrase in phrases]
    # A number may follow a mark directly, which makes it no whole word: `edit2`.
    editing = [word for word in words()["post_editing"] if word != SHORT]
    numbered = [f"{word}{n}" for word in editing for n in range(1, 10)]
    short = [f"{mark}{SHORT}" for mark in "\n >*_#=~([–—-"]
    return _automaton([*listed, *editing, *numbered, *short]), len(listed)


def _automaton(phrases: list[str]) -> Any:
    import ahocorasick_rs

    dfa = ahocorasick_rs.Implementation.DFA
    return ahocorasick_rs.AhoCorasick(phrases, implementation=dfa)
