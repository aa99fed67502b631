"""Storage beside an event loop: in threads, and with a word when it does not answer.

A library that tries a dead server again and again is silent for minutes.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from lima.errors import StorageError

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
"""Objects that are written at the same time."""
SAY_AFTER_S = 5.0
SAY_AGAIN_S = 60.0
LOOK_S = 1.0


class Storing:
    """Does work that touches storage; used as `async with Storing(uri) as storing`."""

    def __init__(self, uri: str) -> None:
        """Prepare to work with the storage at `uri`."""
        self.uri = uri
        self.failed: StorageError | None = None
        """The first failure, which tells more of what is wrong than those that follow from it."""
        self._pool = ThreadPoolExecutor(THREADS)
        self._asked: dict[object, float] = {}

    async def __aenter__(self) -> Self:
        self._watch = asyncio.create_task(self._look_on())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Not waited for by blocking: the watch goes on to say what it is that takes so long.
        await asyncio.to_thread(self._pool.shutdown)
        self._watch.cancel()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of work in a thread.

        Raises:
            StorageError: storage failed, now or before: it is not asked again.

        """
        if self.failed:
            raise self.failed
        token = object()
        self._asked[token] = time.monotonic()
        try:
            return await asyncio.wrap_future(self._pool.submit(work, *args, **kwargs))
        except StorageError as error:
            self._fail(error)
            raise
        finally:
            del self._asked[token]

    def _fail(self, error: StorageError) -> None:
        if self.failed is None:
            self.failed = error
            log.warning("%s; nothing more is asked, and answers in flight are waited for", error)

    async def _look_on(self) -> None:
        said = 0.0
        while True:
            await asyncio.sleep(LOOK_S)
            now = time.monotonic()
            silent = now - min(self._asked.values(), default=now)
            if silent >= SAY_AFTER_S and now - said >= SAY_AGAIN_S:
                said = now
                log.warning(
                    "storage %s has not answered since %s UTC; it is waited for",
                    self.uri,
                    f"{datetime.now(UTC) - timedelta(seconds=silent):%H:%M:%S}",
                )
            elif said and silent < SAY_AFTER_S and not self.failed:
                said = 0.0
                log.info("storage %s answers again", self.uri)
