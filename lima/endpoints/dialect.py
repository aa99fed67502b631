"""What an endpoint does not take of the settings that it is sent, learnt from its refusals.

Newer models take `max_completion_tokens` in the place of `max_tokens`, and no temperature; some
take neither limit; many servers lack extensions of the protocol.
"""

import re
from collections.abc import Collection, Mapping

EXTENSIONS = ("repetition_penalty", "top_k")
"""Settings that the protocol lacks; some servers take them all the same."""
SETTINGS = ("temperature", "top_p", *EXTENSIONS)
OBJECTIONS = (400, 422)
"""HTTP statuses under which a setting is refused."""

_LIMIT, _NEWER_LIMIT = "max_tokens", "max_completion_tokens"
_LIMITS = (_LIMIT, _NEWER_LIMIT)
_OPTIONAL = (*SETTINGS, "seed", *_LIMITS)
_TOO_LONG = re.compile(r"context|too (large|long|high)|exceed|at most|maximum", re.IGNORECASE)
"""In an objection to a limit: its value is wrong, not its name."""


class Dialect:
    """The settings that an endpoint has refused; all requests to it share it."""

    def __init__(self) -> None:
        """Begin with nothing refused."""
        self.refused: frozenset[str] = frozenset()


def without(body: Mapping[str, object], refused: Collection[str]) -> dict[str, object]:
    """Return a request's body as an endpoint takes it that refuses some of its settings."""
    if not refused:
        return dict(body)
    taken = {name: value for name, value in body.items() if name not in refused}
    if _LIMIT in refused and _LIMIT in body and _NEWER_LIMIT not in refused:
        taken[_NEWER_LIMIT] = body[_LIMIT]
    return taken


def without_limit(refused: Collection[str]) -> bool:
    """Say whether an endpoint takes no limit of the length of its answers."""
    return all(name in refused for name in _LIMITS)


def objected(sent: Collection[str], error: str) -> frozenset[str]:
    """Return the settings that an error is about; if it names none, those of extensions.

    Args:
        sent: names of what was sent.
        error: what the endpoint says.

    """
    # The name of the newer limit holds none of the others.
    words = set(re.findall(r"\w+", error))
    named = {name for name in _OPTIONAL if name in sent and name in words}
    if named.intersection(_LIMITS) and _TOO_LONG.search(error.replace(_NEWER_LIMIT, "")):
        named.difference_update(_LIMITS)
    return frozenset(named or {name for name in EXTENSIONS if name in sent})
