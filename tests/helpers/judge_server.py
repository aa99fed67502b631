"""A judge for tests: a real HTTP server on loopback that speaks the chat completions protocol.

What it answers is a function of the request, so that a test says what goes wrong and when.
Run as a program it prints its address and answers well until its input closes.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

VERDICT = "The submission answers the task, clearly and completely.\n5\n5"


@dataclass(frozen=True)
class Request:
    """A request as it arrived; `number` counts from 1 over the life of the server."""

    number: int
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """The text that the judge was given."""
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Reply:
    """What to answer.

    `raw` takes the place of a completion, with `bare` also that of HTTP; `close` of any
    answer, or comes after a bare one. `latin`: a character of it is a byte.
    """

    content: str | None = VERDICT
    finish_reason: str = "stop"
    refusal: str | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: str | None = None
    delay_s: float = 0.0
    close: bool = False
    bare: bool = False
    latin: bool = False

    @property
    def paid(self) -> bool:
        """Whether the answer is a completion, which an endpoint would bill."""
        return self.status == 200 and self.raw is None and not self.close


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Reply:
    """Return an error in the protocol's form; `_` in a header's name stands for `-`."""
    raw = json.dumps({"error": {"message": message, "type": "error", "code": code}})
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, raw=raw, headers=named)


Answer = Callable[[Request], Reply]


def replies(*ordered: Reply) -> Answer:
    """Answer the first request with the first reply and so on; the last one repeats."""
    return lambda request: ordered[min(request.number, len(ordered)) - 1]


class JudgeServer:
    """Answers requests one by one as `answer` says, and keeps count of them.

    Made of callbacks, without a task for each connection: it must cost little beside what asks it.
    """

    def __init__(self, answer: Answer = lambda _: Reply(), port: int = 0) -> None:
        self.answer, self.port = answer, port
        self.requests: list[Request] = []
        self.paid: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.base_url = ""
        self.connections: set[asyncio.Transport] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve on loopback, on a free port if none was named."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self._server = server
        try:
            yield
        finally:
            self.vanish()
            await asyncio.sleep(0)  # in which connections close

    def shut(self) -> None:
        """Take no new connection; those that are there go on."""
        self._server.close()

    def vanish(self) -> None:
        """Break all connections and take no new one, as a process that is killed."""
        self.shut()
        for transport in self.connections.copy():
            transport.abort()


class _Connection(asyncio.Protocol):
    """One connection of a client, which sends its next request after an answer."""

    transport: asyncio.Transport

    def __init__(self, server: JudgeServer) -> None:
        self.server, self.received = server, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        self.server.connections.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        if separator and len(body) == int(headers["content-length"]):
            self.received = b""
            self._begin(first.split(" ")[1], headers, json.loads(body))

    def _begin(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        server = self.server
        request = Request(len(server.requests) + 1, path, headers, body)
        server.requests.append(request)
        server.in_flight += 1
        server.most_in_flight = max(server.most_in_flight, server.in_flight)
        reply = server.answer(request)
        asyncio.get_running_loop().call_later(reply.delay_s, self._end, request, reply)

    def _end(self, request: Request, reply: Reply) -> None:
        """Answer. A client that is gone by now is billed all the same, as endpoints do."""
        self.server.in_flight -= 1
        if reply.paid:
            self.server.paid[request.text] += 1
        if not self.transport.is_closing() and (reply.bare or not reply.close):
            self.transport.write(_http(request, reply))
        if reply.close:
            self.transport.close()


def _completion(request: Request, reply: Reply) -> str:
    if reply.raw is not None:
        return reply.raw
    message = {"role": "assistant", "content": reply.content, "refusal": reply.refusal}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    usage = {"prompt_tokens": 400, "completion_tokens": 50, "total_tokens": 450}
    identity = {"id": f"c-{request.number}", "object": "chat.completion", "created": 0}
    model = f"{request.body['model']}-0125"
    return json.dumps({**identity, "model": model, "choices": [choice], "usage": usage})


def _http(request: Request, reply: Reply) -> bytes:
    body = _completion(request, reply).encode("latin-1" if reply.latin else "utf-8")
    if reply.bare:
        return body
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-request-id": f"req-{request.number}",
        **reply.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode() + body


@contextlib.contextmanager
def running(answer: Answer = lambda _: Reply(), port: int = 0) -> Iterator[JudgeServer]:
    """Serve from a thread of this process; at the end all connections break."""
    server = JudgeServer(answer, port)
    started, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with server.listening():
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    """Yield a judge that likes everything."""
    with running() as judge:
        yield judge


async def _serve_until_input_closes(delay_s: float) -> None:
    server = JudgeServer(lambda _: Reply(delay_s=delay_s))
    async with server.listening():
        print(server.base_url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(len(server.requests), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-s", type=float, default=0.0)
    asyncio.run(_serve_until_input_closes(parser.parse_args().delay_s))
