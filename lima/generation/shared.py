"""One engine for several callers: their requests are decoded together, so that it stays full."""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future

from lima.generation.engine import Request, SampledResponse, ServingEngine

TOGETHER_S = 0.1
"""How long an engine that has nothing to do waits for others, after the first that asks: callers
come together, and some engines look for more only when a response has ended."""
_Call = Future[list[SampledResponse]]


class SharedEngine:
    """Samples for the threads that call it; see `lima.generation.engine.Engine`.

    One thread of its own decodes. It ends with the process, or with the engine's first error,
    which every caller gets from then on.
    """

    def __init__(self, engine: ServingEngine) -> None:
        """Begin to serve by `engine`, which nobody else may use from now on."""
        self.engine = engine
        self._asked: queue.SimpleQueue[tuple[Sequence[Request], _Call]] = queue.SimpleQueue()
        self._open: dict[int, tuple[_Parts, int]] = {}
        self._arrived = 0
        threading.Thread(target=self._serve, name="decoding", daemon=True).start()

    def generate(self, requests: Sequence[Request]) -> list[SampledResponse]:
        """See `Engine.generate`; raises what the engine raised."""
        call = _Call()
        self._asked.put((requests, call))
        return call.result()

    def _serve(self) -> None:
        try:
            for number, response in self.engine.serve(self._arriving):
                parts, place = self._open.pop(number)
                parts.add(place, response)
        except BaseException as error:  # noqa: BLE001 - it is the callers' to see
            for parts, _ in self._open.values():
                parts.refuse(error)
            while True:
                self._asked.get()[1].set_exception(error)

    def _arriving(self, wait: bool) -> list[Request]:
        arrived: list[Request] = []
        while True:
            patience = None if wait and not arrived else TOGETHER_S * wait
            try:
                requests, call = self._asked.get(timeout=patience)
            except queue.Empty:
                return arrived
            parts = _Parts(len(requests), call)
            for place, request in enumerate(requests):
                self._open[self._arrived] = parts, place
                self._arrived += 1
                arrived.append(request)


class _Parts:
    """The responses of a call, as they come."""

    def __init__(self, count: int, call: _Call) -> None:
        self.call, self.left = call, count
        self.responses: list[SampledResponse | None] = [None] * count
        if not count:
            call.set_result([])

    def add(self, place: int, response: SampledResponse) -> None:
        self.responses[place] = response
        self.left -= 1
        if not self.left:
            self.call.set_result([r for r in self.responses if r is not None])

    def refuse(self, error: BaseException) -> None:
        if not self.call.done():
            self.call.set_exception(error)
