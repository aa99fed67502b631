"""What to say of the names of raters, where one person may stand under two."""

from collections.abc import Callable, Iterable

from lima.rating.labels import Label


def told_of_raters(labels: Iterable[Label]) -> list[str]:
    """Return what to say of raters in several groups, and of names that only look like others."""
    listed = list(labels)
    return [
        f"rater {rater} has labels as {' and '.join(sorted(groups))}: where both are of one item, "
        "the first counts, and agreement between these groups is in part that with oneself"
        for rater, groups in _several(listed, lambda x: x.rater, lambda x: x.group)
    ] + [
        f"raters {' and '.join(map(repr, sorted(names)))} are counted as different people; if they "
        "are one, give them one name and import their labels again"
        for _, names in _several(listed, lambda x: _plain(x.rater), lambda x: x.rater)
    ]


def _several(
    labels: Iterable[Label], key: Callable[[Label], str], value: Callable[[Label], str]
) -> list[tuple[str, set[str]]]:
    found: dict[str, set[str]] = {}
    for label in labels:
        found.setdefault(key(label), set()).add(value(label))
    return [(name, values) for name, values in sorted(found.items()) if len(values) > 1]


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())
