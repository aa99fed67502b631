"""Where a baseline's endpoint is; apart from its client, which takes seconds to import."""

from lima.errors import SpecError
from lima.spec import ENDPOINT


def endpoint_address(path: str) -> tuple[str, str]:
    """Return URL and model of a path.

    Raises:
        SpecError: it is not `endpoint:URL#MODEL`.

    """
    url, separator, model = path.removeprefix(ENDPOINT).rpartition("#")
    if not (separator and model and url.startswith(("http://", "https://"))):
        raise SpecError(
            f"generate.model.path: {path!r} is not an endpoint; write endpoint:URL#MODEL, as "
            "endpoint:https://api.openai.com/v1#gpt-4"
        )
    return url, model
