"""Marks of a spec's fields: which of them are part of a run's identity."""

OPERATIONAL = {"operational": True}
"""Decides how fast a stage goes, not what it finds: no part of a run's identity, so that a
resumed run may change it."""

LATER = {"later": True}
"""Younger than runs that exist: part of a run's identity only where it is not the default, so
that those runs keep their ids."""


def stands_for(*names: str) -> dict[str, object]:
    """Return the mark of a fingerprint: known, it names a run in the place of these fields."""
    return {**LATER, "stands_for": names}
