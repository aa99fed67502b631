"""Hints for names that do not exist: "did you mean", one for all."""

from collections.abc import Iterable, Sequence

CUTOFF = 0.5
"""Least likeness, of 1, of a name that may have been meant."""


def closest(name: str, known: Iterable[str], kind: str) -> str:
    """Return a hint for a name that does not exist: a close one, else all of them."""
    names = sorted(known)
    return did_you_mean(close_names(name, names)) or f"{kind}: {', '.join(names)}"


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the name that is close to one that does not exist, if there is any."""
    import difflib

    return difflib.get_close_matches(name, list(known), n=1, cutoff=CUTOFF)


def did_you_mean(names: Sequence[str]) -> str:
    """Return the question; empty where there are no names."""
    return f"did you mean {' or '.join(map(repr, names))}?" if names else ""
