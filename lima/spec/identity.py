"""Marks of a spec's fields: which of them are part of a run's identity."""

from typing import Annotated, Any

from msgspec import Meta

OPERATIONAL = {"operational": True}
"""Decides how fast a stage goes, not what it finds: no part of a run's identity, so that a
resumed run may change it."""

LATER = {"later": True}
"""Younger than runs that exist: part of a run's identity only where it is not the default, so
that those runs keep their ids."""


def stands_for(*names: str) -> dict[str, object]:
    """Return the mark of a fingerprint: known, it names a run in the place of these fields."""
    return {**LATER, "stands_for": names}


Fingerprint = Annotated[
    Annotated[str, Meta(pattern="^(sha256|tree|objects|commit):[0-9a-f]{40,64}$")] | None,
    Meta(
        description="What the input contains, as `sha256:…` of a file, `tree:…` of the names and "
        "hashes of files, `objects:…` of large ones in a bucket, `commit:…` of a hub. Found out "
        "when a study is submitted, and part of the run's id in the place of where it lies; "
        "nothing else is read. null: not known yet."
    ),
]


def once(value: Any) -> dict[str, Any]:
    """Mark a field that is operational now and once was part of the identity.

    There it stands with `value`, its default of then, so that those runs keep their ids.
    """
    return {**OPERATIONAL, "once": value}
