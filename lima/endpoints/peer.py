"""Who is asked: an endpoint, and which settings of a spec decide about it."""

from dataclasses import dataclass

from lima.endpoints.keys import KeyOf


@dataclass(frozen=True)
class Peer:
    """An endpoint in the words of whoever has to mend what is wrong with it.

    Args:
        name: what it is to the run.
        key: its URL and its key, with the settings that name them.
        model: name that the endpoint knows.
        model_setting: where that is set.
        limits: where its settings `concurrency` and `attempts` are; empty: they are fixed.
        length_setting: where the longest answer is set.
        kept: what a run that ends here has kept.

    """

    name: str
    key: KeyOf
    model: str
    model_setting: str
    limits: str
    length_setting: str
    kept: str

    def __str__(self) -> str:
        return f"{self.name} at {self.key.url}"

    @property
    def settings(self) -> str:
        """The settings that say where it is and what it is asked for."""
        return " and ".join(dict.fromkeys((self.model_setting, self.key.where)))
