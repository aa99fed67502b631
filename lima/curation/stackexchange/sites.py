"""The exchanges and the sets they are sampled in: STEM and other (section 2.1)."""

from collections import Counter
from dataclasses import dataclass
from importlib import resources

from lima.errors import DataError
from lima.spec.yamltext import load_yaml

GROUPS = ("stem", "other", "dropped")
UNLISTED = "unlisted"
POOL = "stackexchange-{}"
LANGUAGES = "stackexchange-other-languages"
"""Pool of exchanges in another language than that of the filters' word lists."""
DIALOGUES = "stackexchange-dialogues"
"""Pool of the comment chains of all exchanges."""
REST = "stackexchange-rest"
"""Pool of what can be no example: questions without an answer, answers whose question is gone,
wikis of tags."""


@dataclass(frozen=True)
class Sites:
    """Which exchange belongs to which group, by the names of mid-2023."""

    groups: dict[str, str]
    renamed: dict[str, str]
    languages: frozenset[str] = frozenset()
    """Exchanges that are not in English: of the groups for the count, in a pool of their own."""

    def name(self, site: str) -> str:
        """Return today's name of a site."""
        return self.renamed.get(site, site)

    def pool(self, site: str) -> str:
        """Return the pool of a site's questions: of its group, or that of unlisted sites."""
        if self.name(site) in self.languages:
            return LANGUAGES
        return POOL.format(self.groups.get(self.name(site), UNLISTED))


def _text(path: str | None) -> str:
    if path is None:
        return (resources.files("lima.curation.stackexchange") / "sites.yaml").read_text("utf-8")
    # Its library takes longer than all of lint.
    from lima.curation.reading.record_files import open_bytes

    with open_bytes(path) as stream:
        return stream.read().decode("utf-8")


def load_sites(path: str | None = None) -> Sites:
    """Return the division of a YAML file, or the one that ships here.

    Raises:
        DataError: it cannot be read, lacks a group, or lists a site twice.
        StorageError: a storage could not be reached.

    """
    import yaml

    where = path or "lima/curation/stackexchange/sites.yaml"
    try:
        document = load_yaml(_text(path))
        listed = {group: [str(site) for site in document[group]] for group in GROUPS}
        renamed = {str(old): str(new) for old, new in (document.get("renamed") or {}).items()}
        languages = frozenset(str(site) for site in document.get("other_languages") or ())
    except (
        OSError,
        DataError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        yaml.YAMLError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{where}: not a division of sites; it needs the lists {', '.join(GROUPS)} ({reason})"
        ) from None
    counts = Counter(site for sites in listed.values() for site in sites)
    if twice := sorted(site for site, count in counts.items() if count > 1):
        raise DataError(f"{where}: listed more than once: {', '.join(twice)}")
    groups = {site: group for group, sites in listed.items() for site in sites}
    return Sites(groups, renamed, languages)
