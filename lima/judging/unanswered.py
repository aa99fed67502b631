"""Tries without an answer: what they came to, and what ends a run that gets no other."""

from collections.abc import Sequence
from typing import NamedTuple

from lima.endpoints.attempt import Attempt
from lima.endpoints.peer import Peer
from lima.errors import EndpointError
from lima.judging.tasks import Shard, Task


class Heard(NamedTuple):
    """The attempts at a task so far, and whether they are all."""

    shard: Shard
    task: Task
    attempts: list[Attempt]
    finished: bool = True

    def as_sent(self) -> "Heard | None":
        """Return it without the last attempts that were never sent; None: none was.

        Without a connection nothing was learnt about a response, which is asked about again.
        """
        sent = [number for number, attempt in enumerate(self.attempts, 1) if attempt.sent]
        return self._replace(attempts=self.attempts[: sent[-1]], finished=False) if sent else None


def gone(peer: Peer, tried: Sequence[Heard]) -> EndpointError:
    """Return what ends a run whose judge answers nothing, however often it was `tried`."""
    last = tried[-1].attempts[-1]
    none = f"answered none of {len(tried)} responses in a row (last: {last.error})"
    if last.permanent:
        return EndpointError(
            f"{peer} {none}: it calls the requests wrong; check judge.model, judge.temperature and "
            "judge.max_tokens, then start again: finished judgments are kept, these have no rows "
            "yet"
        )
    return EndpointError(
        f"{peer} {none}; check that judge.base_url and judge.model can be used from here, then "
        "start again: finished judgments are kept, these have no rows yet"
    )


def unreachable(peer: Peer, unreached: Sequence[Heard], total: int) -> EndpointError:
    """Return what ends a run some of whose responses found no connection, of `total`."""
    last = unreached[-1].attempts[-1].error
    return EndpointError(
        f"{len(unreached)} of {total} responses could not be sent to {peer} (last: {last}); see "
        "that it runs, then start again: finished judgments are kept, these have no rows yet"
    )
