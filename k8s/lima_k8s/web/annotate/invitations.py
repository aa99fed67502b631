"""Invitations: an annotator is who holds the secret of a link."""

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from lima.errors import InputError
from lima_k8s.web.annotate.database import Store

Role = Literal["crowd", "author"]
ROLES: tuple[Role, ...] = get_args(Role)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
SECRET_BYTES = 24
ACCESS_BYTES = 12


@dataclass(frozen=True)
class Annotator:
    """A person under a pseudonym: the name goes into the table, the secret does not."""

    name: str
    role: Role
    secret: str
    revoked: bool


def invite(
    store: Store, text: str, labelled: Mapping[str, Collection[str]] | None = None
) -> Annotator:
    """Add an annotator, unless they are invited already.

    Args:
        store: Of the round.
        text: NAME or NAME:ROLE.
        labelled: The groups in which raters have labelled in the same study.

    Raises:
        InputError: not a pseudonym, not a role, one that was withdrawn, or who has labelled in
            another role.

    """
    name, _, given = text.partition(":")
    role = next((known for known in ROLES if known == (given or "crowd")), None)
    if not NAME.fullmatch(name) or role is None:
        raise InputError(
            f"--invite {text}: write NAME or NAME:ROLE, the name a pseudonym of letters, digits, "
            f"'.', '_' and '-', the role one of {', '.join(ROLES)}"
        )
    if others := sorted(set((labelled or {}).get(name, ())) - {role}):
        raise InputError(
            f"--invite {text}: {name} has labelled as {' and '.join(others)} in this study, and a "
            f"rater is of one group; write {name}:{others[0]}, or choose another name"
        )
    with store.writing() as db:
        db.execute(
            "INSERT INTO annotators (name, role, secret) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (name, role, secrets.token_urlsafe(SECRET_BYTES)),
        )
    found = next(a for a in annotators(store) if a.name == name)
    if found.revoked or (given and found.role != role):
        state = "was withdrawn" if found.revoked else f"is invited as {found.role}"
        raise InputError(f"--invite {text}: {name} {state}; choose another name")
    return found


def withdraw(store: Store, name: str) -> None:
    """Close an annotator's link; what they labelled stays, what they left open is given to others.

    Raises:
        InputError: nobody has that name.

    """
    with store.writing() as db:
        if not db.execute("UPDATE annotators SET revoked = 1 WHERE name = ?", (name,)).rowcount:
            known = ", ".join(row["name"] for row in db.execute("SELECT name FROM annotators"))
            raise InputError(f"--withdraw {name}: not invited; invited are {known or 'none'}")


def annotators(store: Store) -> list[Annotator]:
    """Return everyone who was invited, in the order of their names."""
    with store.reading() as db:
        rows = db.execute("SELECT * FROM annotators ORDER BY name").fetchall()
    return [Annotator(r["name"], r["role"], r["secret"], bool(r["revoked"])) for r in rows]


def holder(store: Store, secret: str) -> Annotator | None:
    """Return who holds a secret; None: nobody does, or not any more."""
    digest = _digest(secret)
    found = [a for a in annotators(store) if secrets.compare_digest(_digest(a.secret), digest)]
    return found[0] if found and not found[0].revoked else None


def access_token(store: Store) -> str:
    """Return what annotators of other machines type in once; made when first asked for."""
    token = store.settings().get("access_token")
    if token is None:
        token = secrets.token_urlsafe(ACCESS_BYTES)
        store.set(access_token=token)
    return str(token)


def is_access(store: Store, given: str) -> bool:
    """Say whether the access token was given."""
    return secrets.compare_digest(_digest(given), _digest(access_token(store)))


def _digest(text: str) -> bytes:
    """Return what can be compared in constant time, whatever the lengths."""
    return hashlib.sha256(text.encode()).digest()
