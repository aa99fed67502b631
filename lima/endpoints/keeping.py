"""Answers that storage does not take: they are kept on this machine, and people are told where."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from lima.endpoints.attempt import Attempt
from lima.endpoints.journal import Journal
from lima.errors import StorageError

log = logging.getLogger(__name__)


async def keep_aside(journal: Journal, attempts: Mapping[str, Sequence[Attempt]]) -> None:
    """Keep attempts at some judgments on this machine, as far as it has a place for them."""
    try:
        await asyncio.to_thread(journal.set_aside, attempts)
    except StorageError as error:
        log.warning("%s", error)


def with_what_waits(error: StorageError, journal: Journal) -> StorageError:
    """Return what ends a run that storage ended, with where its last answers are."""
    if not journal.waiting:
        return error
    return StorageError(
        f"{error}; {len(journal.waiting)} answers that were paid for wait in "
        f"{journal.aside.folder} of this machine, where the same command takes them up"
    )
