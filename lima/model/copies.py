"""Which files of a saved model are copied to a machine, and that only one worker copies them."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from lima.common.filelock import held

log = logging.getLogger(__name__)


@contextlib.contextmanager
def one_at_a_time(file: Path, doing: str) -> Iterator[None]:
    """Hold the lock `file` of this machine; a process that is killed lets it go.

    Args:
        file: Made if it is not there; it stays.
        doing: What another process is waited for to do, for the log.

    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(file, wait=False))
        except BlockingIOError:
            log.info("waiting for another worker of this machine, which %s", doing)
            stack.enter_context(held(file))
        yield
