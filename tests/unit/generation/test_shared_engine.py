"""Callers that share an engine: each gets the responses to what it asked, or the error."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from lima.errors import ModelError
from lima.generation.engine import Arriving, Request, SampledResponse
from lima.generation.shared import SharedEngine


class Echo:
    """Answers a request with its own tokens, the shortest first, one a turn."""

    def __init__(self, damaged: int | None = None) -> None:
        self.damaged = damaged
        self.most = 0
        """Requests that it had at a time."""
        self.may_go_on = threading.Event()

    def generate(self, requests: Sequence[Request]) -> list[SampledResponse]:
        raise NotImplementedError

    def serve(self, arriving: Arriving) -> Iterator[tuple[int, SampledResponse]]:
        has: dict[int, Request] = {}
        arrived = 0
        self.may_go_on.wait()
        while True:
            for request in arriving(not has) or ():
                has[arrived] = request
                arrived += 1
            self.most = max(self.most, len(has))
            number = min(has, key=lambda n: (len(has[n].token_ids), n))
            request = has.pop(number)
            if len(request.token_ids) == self.damaged:
                raise ModelError("not numbers")
            yield number, SampledResponse(list(request.token_ids), "eot", 0.0)


def asked(caller: int, count: int) -> list[Request]:
    return [Request([caller] * (1 + (caller + n) % 7), f"key{n}", n) for n in range(count)]


def test_each_caller_gets_its_own_responses_in_its_order() -> None:
    engine = Echo()
    shared = SharedEngine(engine)
    with ThreadPoolExecutor(8) as pool:
        calls = {caller: pool.submit(shared.generate, asked(caller, caller)) for caller in range(8)}
        while shared._asked.qsize() < 8:
            time.sleep(0.01)
        engine.may_go_on.set()
        for caller, call in calls.items():
            expected = [list(request.token_ids) for request in asked(caller, caller)]
            assert [response.token_ids for response in call.result()] == expected
    assert engine.most > 20, "they were decoded together"
    assert [r.token_ids for r in shared.generate(asked(9, 3))] == [
        list(request.token_ids) for request in asked(9, 3)
    ]


def test_an_error_is_every_callers() -> None:
    engine = Echo(damaged=7)
    shared = SharedEngine(engine)
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(shared.generate, [Request([caller] * 7, "key", 0)]) for caller in (1, 2)
        ]
        engine.may_go_on.set()
        for call in calls:
            with pytest.raises(ModelError, match="not numbers"):
                call.result()
    with pytest.raises(ModelError, match="not numbers"):
        shared.generate(asked(1, 1))
