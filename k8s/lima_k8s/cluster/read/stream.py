"""Lines of an answer that comes bit by bit."""

from collections.abc import Iterator
from typing import Any

from lima_k8s.cluster.read.failures import UnreachableError


def lines(response: Any, what: str) -> Iterator[str]:
    """Yield the lines of an answer of urllib3 as they come.

    Raises:
        UnreachableError: it breaks off, as when the API server is restarted.

    """
    from urllib3.exceptions import HTTPError

    pending = b""
    try:
        for chunk in response.stream(decode_content=True):
            *whole, pending = (pending + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
    except (HTTPError, OSError) as error:
        raise UnreachableError(
            f"{what} broke off ({error}); check the network, then ask for it again"
        ) from error
    if pending:
        yield pending.decode(errors="replace")
