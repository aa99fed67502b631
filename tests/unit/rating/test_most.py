"""What most raters of an item said, whoever they are."""

from collections.abc import Sequence
from itertools import permutations

import pytest

from lima.rating.instructions import Kind
from lima.rating.labels import Label
from lima.rating.most import labels_of_most


def label(rater: str, value: str | None, kind: Kind = "preference") -> Label:
    other = "y" if kind == "preference" else None
    return Label("i", 0, kind, rater, "crowd", value, "ok", "x", other, "p")


@pytest.mark.parametrize(
    ("kind", "said", "most"),
    [
        ("preference", ["2", "1", "1"], "1"),
        ("preference", ["2", "1"], "tie"),
        ("preference", ["2", "1", "tie"], "tie"),
        ("preference", ["2", None], "2"),
        ("absolute", ["excellent", "pass", "excellent"], "excellent"),
        ("absolute", ["excellent", "fail", "pass"], "fail"),
        ("absolute", ["excellent", "pass"], "pass"),
        ("safety", ["safe", "unsafe"], "unsafe"),
    ],
)
def test_most_of_them(kind: Kind, said: Sequence[str | None], most: str) -> None:
    for raters in permutations("abc"[: len(said)]):
        labels = [label(rater, value, kind) for rater, value in zip(raters, said, strict=True)]
        [one] = labels_of_most(labels)
        assert one.value == most


def test_nobody_said_anything() -> None:
    assert labels_of_most([label("a", None)]) == []
