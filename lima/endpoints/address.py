"""Where a baseline's endpoint is; apart from its client, which takes seconds to import."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from lima.errors import SpecError
from lima.spec import ENDPOINT


def endpoint_address(path: str) -> tuple[str, str]:
    """Return URL and model of a path.

    Raises:
        SpecError: it is not `endpoint:URL#MODEL`.

    """
    if problem := address_problem(path):
        raise SpecError(f"generate.model.path: {'; '.join(problem)}")
    url, _, model = path.removeprefix(ENDPOINT).rpartition("#")
    return url, model


def address_problem(path: str) -> tuple[str, str] | None:
    """Return what is wrong with the path of an endpoint, and what to do; None: nothing."""
    url, separator, model = path.removeprefix(ENDPOINT).rpartition("#")
    if separator and model and url.startswith(("http://", "https://")):
        return None
    return (
        f"{path!r} is not an endpoint",
        "write endpoint:URL#MODEL, as endpoint:https://api.openai.com/v1#gpt-4",
    )


def proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for an address."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
