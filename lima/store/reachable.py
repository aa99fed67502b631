"""Whether somebody answers where a storage is: its own library tries a dead server for a minute."""

import os
import socket
import time
from urllib.parse import urlsplit

from lima.errors import NoAnswerError
from lima.store.s3 import endpoint, region

CONNECT_S = 5.0
PAUSE_S = 1.0
POD_PATIENCE_S = 10.0


def require_answer(uri: str, patience_s: float = 0.0) -> None:
    """Connect to the S3 server of `uri`; other kinds of storage are taken on trust.

    Args:
        uri: Of the storage.
        patience_s: Seconds to go on trying, as in a pod, whose network may come up a little after
            its processes. What AWS's own address is there is not guessed then.

    Raises:
        NoAnswerError: nobody answers there.

    """
    custom = endpoint()
    if not uri.startswith("s3://") or os.environ.get("HTTPS_PROXY") or (patience_s and not custom):
        return
    url = urlsplit(custom or f"https://s3.{region() or 'us-east-1'}.amazonaws.com")
    host, port = url.hostname or "", url.port or (80 if url.scheme == "http" else 443)
    give_up = time.monotonic() + patience_s
    while error := _refusal(host, port):
        if time.monotonic() >= give_up:
            raise NoAnswerError(
                f"{uri}: nobody answers at {host}:{port} ({error.strerror or error}); check "
                "AWS_ENDPOINT_URL (in a pod: cluster.storage.endpoint) and the network"
            ) from error
        time.sleep(PAUSE_S)


def _refusal(host: str, port: int) -> OSError | None:
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        return error
    return None
