"""What licences ask for, as far as a data set is concerned.

No legal advice: what a licence demands is told so that a person can decide, and a policy can
refuse sources by name.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass

UNKNOWN = "none stated"


@dataclass(frozen=True)
class Licence:
    """A licence and what it asks of those who pass a data set on."""

    name: str
    url: str = ""
    attribution: bool = False
    share_alike: bool = False
    non_commercial: bool = False
    known: bool = True


OTHERS = {
    "apache-2.0": Licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0", True),
    "mit": Licence("MIT", "https://opensource.org/license/mit", True),
    "cc0 1.0": Licence("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "odc-by 1.0": Licence("ODC-BY 1.0", "https://opendatacommons.org/licenses/by/1-0/", True),
    "reddit user content": Licence(
        "Reddit user content",
        "https://www.redditinc.com/policies/user-agreement",
        attribution=True,
        known=False,
    ),
}
_CC = re.compile(r"cc[ -]by((?:[ -](?:nc|sa|nd))*)(?:[ -](\d\.\d))?(?: .*)?", re.IGNORECASE)
_OTHER_NAMES = {"apache 2.0": "apache-2.0", "cc0-1.0": "cc0 1.0", "cc0": "cc0 1.0"}


def licence(name: str) -> Licence:
    """Return what is known of a licence by its name, as dumps and cards write it.

    A name that is not known is returned as it is, marked so; it asks for attribution, since
    whoever passes the text on owes that at least.
    """
    plain = " ".join(name.split())
    if not plain or plain.casefold() in (UNKNOWN, "unknown"):
        return Licence(UNKNOWN, attribution=True, known=False)
    if found := _CC.fullmatch(plain):
        terms = re.findall("nc|sa|nd", found[1].lower())
        version = found[2] or ""
        code = "-".join(["by", *terms])
        return Licence(
            " ".join(part for part in (f"CC {code.upper()}", version) if part),
            f"https://creativecommons.org/licenses/{code}/{version or '4.0'}/",
            attribution=True,
            share_alike="sa" in terms,
            non_commercial="nc" in terms,
        )
    key = _OTHER_NAMES.get(plain.casefold(), plain.casefold())
    return OTHERS.get(key) or Licence(plain, attribution=True, known=False)


def licences(text: str) -> tuple[Licence, ...]:
    """Return the licences of a provenance, which may name several: `Apache-2.0 / CC BY-SA 4.0`."""
    found = {part.name: part for part in map(licence, re.split(r"(?<!\s)\s+/\s+", text))}
    return tuple(found.values())


def refused(text: str, refuse: Iterable[str]) -> str:
    """Return the licence of `text` that matches one of the globs `refuse`; empty: none does.

    Names are compared without case, as `CC BY-NC*`, `*NC*`, `none stated`, `Reddit*`.
    """
    patterns = [pattern.casefold() for pattern in refuse]
    for found in licences(text):
        if any(fnmatch.fnmatchcase(found.name.casefold(), pattern) for pattern in patterns):
            return found.name
    return ""
