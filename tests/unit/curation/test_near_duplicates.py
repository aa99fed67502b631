"""Duplicates and overlaps with held-out prompts, against brute force."""

import random
from itertools import combinations
from pathlib import Path

import pytest

from lima.curation.arms.decontamination import HeldOut
from lima.curation.candidates.candidate import Candidate
from lima.curation.reading.damage import Damage
from lima.curation.sources import lima_release
from lima.curation.text.near_duplicates import (
    DuplicateIndex,
    duplicate_pairs,
    jaccard,
    shingles,
    words,
)

VOCABULARY = [f"w{i}" for i in range(2000)]


def _text(noise: random.Random, size: int = 200) -> list[str]:
    return [noise.choice(VOCABULARY) for _ in range(size)]


def _edited(noise: random.Random, text: list[str], rate: float) -> list[str]:
    return [noise.choice(VOCABULARY) if noise.random() < rate else word for word in text]


def _release(shared_data: Path) -> list[Candidate]:
    return list(lima_release.read([str(shared_data / "lima")], damage=Damage(strict=True)))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8])
def test_finds_what_brute_force_finds(threshold: float) -> None:
    noise = random.Random(1)
    texts: list[str] = []
    for _ in range(60):
        original = _text(noise)
        texts.append(" ".join(original))
        texts += [" ".join(_edited(noise, original, rate)) for rate in (0.01, 0.03, 0.06, 0.12)]
    noise.shuffle(texts)
    sets = [shingles(words(text)) for text in texts]
    expected: dict[int, tuple[float, int]] = {}
    for first, second in combinations(range(len(texts)), 2):
        similarity = jaccard(sets[first], sets[second])
        if similarity >= threshold and similarity > expected.get(second, (0.0, 0))[0]:
            expected[second] = (similarity, first)
    found = {
        int(key): (match.similarity, int(match.key))
        for key, match in duplicate_pairs(((str(i), t) for i, t in enumerate(texts)), threshold)
    }
    assert found == expected
    assert 10 < len(found) < 240


def test_exact_duplicates_do_not_care_for_case_and_punctuation() -> None:
    index = DuplicateIndex()
    index.add("a", "Hello, World! It's\nfine.")
    match = index.find("hello world it’s FINE")
    assert match is not None
    assert (match.key, match.exact, match.similarity) == ("a", True, 1.0)
    assert index.find("hello world it is fine") is None


def test_the_first_of_a_group_stays() -> None:
    noise = random.Random(2)
    original = _text(noise)
    copies = [" ".join(_edited(noise, original, 0.01)) for _ in range(6)]
    for order in (copies, copies[::-1]):
        found = dict(duplicate_pairs(((text, text) for text in order), 0.5))
        assert set(found) == set(order[1:])


def test_short_and_empty_texts() -> None:
    pairs = [("a", "Yes"), ("b", "No"), ("c", "yes."), ("d", ""), ("e", "…")]
    found = dict(duplicate_pairs(pairs))
    assert {key: match.key for key, match in found.items()} == {"c": "a", "e": "d"}


def test_the_release_has_no_near_duplicates_but_one_that_is_close(shared_data: Path) -> None:
    texts = [(c.source_id, "\n".join(c.conversation)) for c in _release(shared_data)]
    assert list(duplicate_pairs(texts)) == []
    ((key, match),) = duplicate_pairs(texts, 0.3)
    assert (key, match.key) == ("lima_llamafactory:426", "lima_llamafactory:421")
    assert match.similarity == pytest.approx(0.34, abs=0.01)


# Overlap with held-out prompts


PROMPT = "I'm feeling a bit lonely these days, how can I make new friends?"


@pytest.mark.parametrize(
    ("conversation", "run"),
    [
        ((PROMPT, "Go out."), PROMPT[:-1]),
        (
            ("Well: I’M feeling a bit LONELY these days!", "…"),
            "I’M feeling a bit LONELY these days",
        ),
        (
            ("x", "You say: lonely these days, how can I make new? No."),
            "lonely these days, how can I make new",
        ),
        (("I'm feeling a bit lonely this day", "How can I make new friends"), None),
    ],
)
def test_runs_of_words_are_found_as_they_stand(
    conversation: tuple[str, ...], run: str | None
) -> None:
    overlap = HeldOut([("k", PROMPT)], run=7).find(conversation)
    assert (overlap and overlap.text) == run
    if overlap:
        assert overlap.words == len(words(overlap.text)) >= 7
        assert overlap.share == overlap.words / len(words(PROMPT))


@pytest.mark.parametrize(
    ("conversation", "found"),
    [
        (("Does P=NP?", "No one knows."), True),
        (("Does P=NP in practice?", "No."), False),
        (("Please write a joke about fruit now", "Ha."), True),
        (("Be funny", "I can write a joke about fruit."), False),
        (("Hello", "x"), False),
    ],
)
def test_short_prompts_must_be_asked_again(conversation: tuple[str, ...], found: bool) -> None:
    held = HeldOut([("a", "Does P=NP?"), ("b", "Write a joke about fruit."), ("c", "…")])
    assert (held.find(conversation) is not None) == found


def test_the_longest_run_is_the_evidence() -> None:
    held = HeldOut([("a", "a b c d e f g h"), ("b", "x a b c d e f g h i j")])
    overlap = held.find(("q a b c d e f g h i j k", "-"))
    assert overlap is not None
    assert (overlap.key, overlap.words) == ("b", 10)
    repeated = HeldOut([("r", "a a a a a a a a a a")]).find(("a " * 30, "-"))
    assert repeated is not None
    assert repeated.words == 10


def test_overlaps_agree_with_brute_force() -> None:
    noise = random.Random(3)
    letters = "abc"
    prompts = [" ".join(noise.choices(letters, k=noise.randint(1, 14))) for _ in range(25)]
    held = HeldOut([(str(i), prompt) for i, prompt in enumerate(prompts)], run=6)
    for _ in range(200):
        turns = tuple(" ".join(noise.choices(letters, k=noise.randint(1, 20))) for _ in range(2))
        longest = max(_longest_by_hand(turn, prompts) for turn in turns)
        overlap = held.find(turns)
        if longest:
            assert overlap is not None
            assert overlap.words >= longest
        elif overlap:
            assert overlap.words < 6
            assert any(overlap.text.split() == p.split() for p in prompts)


def _longest_by_hand(text: str, prompts: list[str]) -> int:
    best = 0
    for prompt in prompts:
        for start in range(len(prompt)):
            for end in range(start + 1, len(prompt) + 1):
                part = prompt[start:end]
                whole = part.strip() == part and len(part.split()) >= 6
                if whole and part in text:
                    best = max(best, len(part.split()))
    return best


def test_limas_training_set_holds_one_of_its_test_prompts(shared_data: Path) -> None:
    found = _release(shared_data)
    test = [c for c in found if len(c.conversation) == 1]
    held = HeldOut((c.source_id, c.conversation[0]) for c in test)
    overlaps = {
        c.source_id: overlap
        for c in found
        if len(c.conversation) > 1 and (overlap := held.find(c.conversation))
    }
    (overlap,) = overlaps.values()
    assert overlap.text == PROMPT[:-1]
    assert (overlap.key, overlap.share) == ("lima_test:83", 1.0)
