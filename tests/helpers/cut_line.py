"""A line to a server that a test can cut: a real TCP proxy on loopback."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit


class Line:
    """Passes bytes on, while it is not cut; `hold`: takes connections and passes nothing on."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname
        assert parts.port
        self._target = (parts.hostname, parts.port)
        self._open = asyncio.Event()
        self._open.set()
        self.is_cut = False
        self.limit: int | None = None
        """Bytes to the server after which it is cut."""
        self.url = ""
        self.sent = self.received = 0
        """Bytes that went to the server, and that came from it."""
        self.taken = 0
        """Connections."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()

    def cut(self) -> None:
        """Break all connections, and every new one at once."""
        self.is_cut = True
        self._loop.call_soon_threadsafe(self._break)

    def hold(self) -> None:
        """Pass nothing on, until it is mended."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def mend(self) -> None:
        """Pass on what there is."""
        self.is_cut = False
        self._loop.call_soon_threadsafe(self._open.set)

    def _break(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await self._ended.wait()
        server.close()
        self._break()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        self.taken += 1
        if task := asyncio.current_task():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        back, forth = await asyncio.open_connection(*self._target)
        ends = {writer, forth}
        self._writers |= ends
        with contextlib.suppress(OSError):
            await asyncio.gather(
                self._pass(reader, forth, "sent"), self._pass(back, writer, "received")
            )
        self._writers -= ends

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, counted: str
    ) -> None:
        while data := await source.read(1 << 16):
            await self._open.wait()
            setattr(self, counted, getattr(self, counted) + len(data))
            if self.limit is not None and self.sent > self.limit:
                self.is_cut = True
                self._break()
            target.write(data)
            await target.drain()
        target.close()


@contextlib.contextmanager
def line_to(target: str) -> Iterator[Line]:
    """Yield a line to the server at a URL, with a URL of its own."""
    line, started = Line(target), threading.Event()
    thread = threading.Thread(
        target=lambda: line._loop.run_until_complete(line._serve(started)), daemon=True
    )
    thread.start()
    started.wait()
    try:
        yield line
    finally:
        line._loop.call_soon_threadsafe(line._open.set)
        line._loop.call_soon_threadsafe(line._ended.set)
        thread.join()
