"""What a command needs that the command line alone does not bring: the jobs' libraries."""

import importlib.util
import json
from importlib import metadata
from urllib.parse import unquote, urlsplit

from lima.errors import InputError

DISTRIBUTION, EXTRA = "lima-k8s", "jobs"
OURS = ("lima", "lima_k8s", "lima_jobs")


def require_jobs(what: str, library: str = "ray") -> None:
    """Refuse what needs one of the jobs' libraries if it is not installed.

    Raises:
        InputError: it says how to install them.

    """
    if importlib.util.find_spec(library) is None:
        raise InputError(f"{what} needs the jobs' libraries; {advice()}")


def lacking(error: ModuleNotFoundError) -> InputError | None:
    """Return the error for a library that is not installed; None: the module is one of ours."""
    name = (error.name or "").partition(".")[0]
    if not name or name in OURS:
        return None
    return InputError(f"this needs {name}, which is not installed; {advice()}")


def advice() -> str:
    """Return how to install the jobs' libraries beside what is installed here, in one sentence."""
    return f"install the jobs' libraries: pip install {_requirement(_origin())}"


def _origin() -> dict[str, object]:
    """Return where this installation came from, as PEP 610 records it; empty: an index."""
    try:
        recorded = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        origin = json.loads(recorded or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return {}
    return origin if isinstance(origin, dict) else {}


def _requirement(origin: dict[str, object]) -> str:
    url = str(origin.get("url", ""))
    if "dir_info" in origin:
        return f"-e '{unquote(urlsplit(url).path)}[{EXTRA}]'"
    if "archive_info" in origin:
        return f"'{DISTRIBUTION}[{EXTRA}] @ {url}'"
    return f"'{DISTRIBUTION}[{EXTRA}]'"
