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
    """What to answer. `raw` takes the place of a completion; `close` of any answer at all."""

    content: str | None = VERDICT
    finish_reason: str = "stop"
    refusal: str | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: str | None = None
    delay_s: float = 0.0
    close: bool = False

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


class JudgeServer:
    """Answers requests one by one as `answer` says, and keeps count of them."""

    def __init__(self, answer: Answer = lambda _: Reply()) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.paid: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.base_url = ""

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve on a free port of loopback."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        try:
            yield
        finally:
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        request = Request(len(self.requests) + 1, head[0].split(" ")[1], headers, body)
        self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            reply = self.answer(request)
            await asyncio.sleep(reply.delay_s)
        finally:
            self.in_flight -= 1
        if reply.close:
            return False
        if reply.paid:
            self.paid[request.text] += 1
        writer.write(_http(request, reply))
        await writer.drain()
        return True


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
    body = _completion(request, reply)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body.encode())),
        "x-request-id": f"req-{request.number}",
        **reply.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n{body}".encode()


@contextlib.contextmanager
def running(answer: Answer = lambda _: Reply()) -> Iterator[JudgeServer]:
    """Serve from a thread of this process."""
    server = JudgeServer(answer)
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
