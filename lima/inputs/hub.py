"""Which commit a name of the Hugging Face hub stands for."""

import json
import os
from pathlib import Path

from lima.inputs.memory import Unknown

ADDRESS = "https://huggingface.co"
DEFAULT_REVISION = "main"
ANSWER_S = 5.0
TRUE = frozenset({"1", "ON", "YES", "TRUE"})


class Hub:
    """The hub that the environment names; one that does not answer is not asked again."""

    def __init__(self) -> None:
        """Ask nothing yet."""
        self._silent: Unknown | None = None

    def commit_of(self, name: str, revision: str | None) -> str | Unknown:
        """Return the commit that would be downloaded now, or that a machine without a hub has.

        Args:
            name: Of the repository of a model.
            revision: Branch, tag or commit; None: its default.

        """
        wanted = revision or DEFAULT_REVISION
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in TRUE:
            offline = Unknown("could not ask: HF_HUB_OFFLINE keeps the hub from being asked")
            return _cached(name, wanted) or offline
        found = self._silent or self._asked(name, wanted)
        return found if isinstance(found, str) else _cached(name, wanted) or found

    def _asked(self, name: str, revision: str) -> str | Unknown:
        # They take longer than all of lint.
        import urllib.error
        import urllib.parse
        import urllib.request

        hub = os.environ.get("HF_ENDPOINT", ADDRESS).rstrip("/")
        path = f"api/models/{urllib.parse.quote(name)}/revision/{urllib.parse.quote(revision, '')}"
        token = os.environ.get("HF_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"{hub}/{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
                return str(json.load(answer)["sha"])
        except urllib.error.HTTPError as error:
            return Unknown(f"the hub at {hub} answers {error.code}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._silent = Unknown(f"could not ask: the hub at {hub} does not answer ({error})")
            return self._silent


def _cached(name: str, revision: str) -> str | None:
    """Return the commit that the hub's own cache on this machine has for a revision."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    folder = cache / f"models--{name.replace('/', '--')}"
    if (folder / "snapshots" / revision).is_dir():
        return revision
    try:
        return (folder / "refs" / revision).read_text("utf-8").strip() or None
    except OSError:
        return None
