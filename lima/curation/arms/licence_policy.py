"""What licences ask for, as far as a data set is concerned.

No legal advice: what a licence demands is told so that a person can decide, and a policy can
refuse sources by name.
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence
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
_OTHER_NAMES = {"apache 2.0": "apache-2.0", "cc0-1.0": "cc0 1.0", "cc0": "cc0 1.0"}
TERMS = ("nc", "sa", "nd")
"""Of Creative Commons, in the order in which their names have them."""
_SITE = r"(?:https?://)?(?:www\.)?creativecommons\.org"
_IN_WORDS = (
    (re.compile(r"[\u2010-\u2015\u2212]"), "-"),
    (re.compile(r"[_\s]+"), " "),
    (re.compile(rf"{_SITE}/licenses/|creative[ -]commons[ -]"), "cc "),
    (re.compile(rf"{_SITE}/publicdomain/zero/(\d\.\d)\S*"), r"cc0 \1"),
    (re.compile(r"\battribution\b"), "by"),
    (re.compile(r"\bnon[ -]?commercial\b"), "nc"),
    (re.compile(r"\bshare[ -]?alike\b"), "sa"),
    (re.compile(r"\bno[ -]?deriv(?:ative)?s?(?:[ -]works)?\b"), "nd"),
    (re.compile(r" ?, ?(?=(?:nc|sa|nd)\b)"), "-"),
)
"""Other spellings of names and terms, and those that `_CC` has."""
_CC = re.compile(r"(?:\bcc[ -]?by|^\W*by(?=[ -](?:nc|sa|nd)\b))\b[^\d]*(?:(\d(?:\.\d)?)(?!\d))?")
_TERM = re.compile(r"\b(?:nc|sa|nd)\b")
_VERSIONS = re.compile(r"(.*[^\d.])(\d(?:\.\d)?(?:\s*/\s*\d(?:\.\d)?)+)")
_BETWEEN = (r"(?<!\s)\s+/\s+", r"\s*[,;|&+]\s*|\s+(?:and|or)\s+", r"/")
"""What stands between licences: surely, and if there are licences on its sides."""


def licence(name: str) -> Licence:
    """Return what is known of a licence by its name or address, as dumps and cards write it.

    A name that is not known is returned as it is, marked so; it asks for attribution, since
    whoever passes the text on owes that at least.
    """
    plain = " ".join(name.split())
    if not plain or plain.casefold() in (UNKNOWN, "unknown"):
        return Licence(UNKNOWN, attribution=True, known=False)
    spelled = _spelled(plain)
    if found := _CC.search(spelled):
        terms = _TERM.findall(spelled[found.start() :])
        return _creative_commons([t for t in TERMS if t in terms], found[1] or "")
    key = spelled.strip("()[] ")
    return OTHERS.get(_OTHER_NAMES.get(key, key)) or Licence(plain, attribution=True, known=False)


def licences(text: str) -> tuple[Licence, ...]:
    """Return the licences of a provenance, which may name several: `Apache-2.0 / CC BY-SA 4.0`."""
    if versions := _VERSIONS.fullmatch(text.strip()):
        names = [versions[1] + version.strip() for version in versions[2].split("/")]
    else:
        names = re.split(_BETWEEN[0], text)
    found = {part.name: part for name in names for part in _parts(name)}
    return tuple(found.values())


def refused(text: str, refuse: Iterable[str]) -> str:
    """Return the licence of `text` that matches one of the globs `refuse`; empty: none does.

    Names are compared without case, as `CC BY-NC*`, `*NC*`, `none stated`, `Reddit*`; hyphens,
    spaces and low lines are the same. So is the text as the source writes it.
    """
    patterns = [_loose(pattern) for pattern in refuse]
    names = [found.name for found in licences(text)]
    for name in [*names, text.strip()]:
        if any(fnmatch.fnmatchcase(_loose(name), pattern) for pattern in patterns):
            return name
    return ""


def _parts(name: str) -> list[Licence]:
    """Return the licences of a text that may name several without ` / ` between them."""
    listed, slashed = (re.split(between, name) for between in _BETWEEN[1:])
    whole = licence(name)
    # `Attribution, NonCommercial` is one; unknown words between commas are no list.
    if len(listed) > 1 and not any(_spelled(part).strip("() ") in TERMS for part in listed):
        found = [part for text in listed if text for part in _parts(text)]
        if any(part.known for part in found):
            return found
    if len(slashed) > 1:
        found = [licence(part) for part in slashed]
        if all(part.known for part in found):
            return found
    return [whole]


def _creative_commons(terms: Sequence[str], version: str) -> Licence:
    version = f"{version}.0" if len(version) == 1 else version
    code = "-".join(["by", *terms])
    return Licence(
        " ".join(part for part in (f"CC {code.upper()}", version) if part),
        f"https://creativecommons.org/licenses/{code}/{version or '4.0'}/",
        attribution=True,
        share_alike="sa" in terms,
        non_commercial="nc" in terms,
    )


def _spelled(name: str) -> str:
    """Return a name in lower case, with the codes of Creative Commons for its words."""
    text = name.casefold()
    for other, ours in _IN_WORDS:
        text = other.sub(ours, text)
    return text.strip()


def _loose(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", name.casefold())
