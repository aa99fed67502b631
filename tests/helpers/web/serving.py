"""A server of the standard library that answers in a thread of the tests' process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from typing import TypeVar

S = TypeVar("S", bound=BaseServer)
POLL_S = 0.01  # how long its end may take


@contextmanager
def serving(server: S) -> Iterator[S]:
    """Let a server answer until the end of the block, which closes it.

    Closed without the end of its thread, a server would turn in it without a pause for as long as
    the process lives, and take half of it from all later tests.
    """
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
