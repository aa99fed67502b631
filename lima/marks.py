"""Marks of a spec's fields: which of them are part of a run's identity."""

from typing import Any

OPERATIONAL = {"operational": True}
"""Decides how fast a stage goes, not what it finds: no part of a run's identity, so that a
resumed run may change it."""

LATER = {"later": True}
"""Younger than runs that exist: part of a run's identity only where it is not the default, so
that those runs keep their ids."""


def once(value: Any) -> dict[str, Any]:
    """Mark a field that is operational now and once was part of the identity.

    There it stands with `value`, its default of then, so that those runs keep their ids.
    """
    return {**OPERATIONAL, "once": value}
