"""An S3 server that may answer 503 for a while: a proxy before the real one."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

REFUSAL = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>SlowDown</Code>"
    b"<Message>Please reduce your request rate.</Message></Error>"
)
ANSWER = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(REFUSAL), REFUSAL)
)
CHUNK = 1 << 16


@dataclass
class Proxy:
    """Passes connections on, or refuses every request while `out` is set."""

    host: str
    target: tuple[str, int]
    port: int = 0
    refused: int = 0
    out: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        """The URL under which pods and this machine reach the server through it."""
        return f"http://{self.host}:{self.port}"

    async def serve(self, ready: threading.Event, ended: threading.Event) -> None:
        """Serve until `ended` is set."""
        server = await asyncio.start_server(self._connection, self.host, 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            while not ended.is_set():
                await asyncio.sleep(0.1)

    async def _connection(self, client: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if self.out.is_set():
                await self._refuse(client, out)
            else:
                await self._pass_on(client, out)
        out.close()

    async def _refuse(self, client: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        await client.readuntil(b"\r\n\r\n")
        self.refused += 1
        out.write(ANSWER)
        await out.drain()

    async def _pass_on(self, client: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(*self.target)
        ways = [
            asyncio.create_task(_copy(client, to_server)),
            asyncio.create_task(_copy(server, out)),
        ]
        # A connection that was open before an outage must not outlive its beginning.
        cut = asyncio.create_task(self._begin_of_outage())
        await asyncio.wait([*ways, cut], return_when=asyncio.FIRST_COMPLETED)
        for task in (*ways, cut):
            task.cancel()
        to_server.close()

    async def _begin_of_outage(self) -> None:
        while not self.out.is_set():
            await asyncio.sleep(0.1)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK):
        sink.write(data)
        await sink.drain()


@contextlib.contextmanager
def proxy(host: str, target: tuple[str, int]) -> Iterator[Proxy]:
    """Serve a proxy to `target` on a free port of `host`, from a thread."""
    made, ready, ended = Proxy(host, target), threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(made.serve(ready, ended)), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield made
    finally:
        ended.set()
        thread.join()
