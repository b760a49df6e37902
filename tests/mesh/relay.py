"""A way to a server that can swallow everything: what a network does whose packets vanish."""

import asyncio
import contextlib
import threading


class Relay:
    """Passes connections to `upstream` (host:port, set when it is known) on, from a thread of its own.

    While `swallowing` is True connections are taken and stay open, and nothing that is sent comes out, either way.
    What was swallowed is lost, so that connections of that time are cut when it ends.
    """

    def __init__(self):
        self.address = ""
        self.upstream = ""
        self.swallowing = False
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._connections = set()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()), name="relay")

    def __enter__(self):
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def swallow(self):
        """From now on nothing comes through."""
        self.swallowing = True

    def heal(self):
        """New connections come through again."""
        self.swallowing = False
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self):
        for writer in self._connections:
            writer.close()

    async def _run(self):
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = "{}:{}".format(*server.sockets[0].getsockname())
        self._listening.set()
        await self._stop.wait()
        server.close()
        self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=5) if others else None

    async def _accept(self, reader, writer):
        self._connections.add(writer)
        with contextlib.suppress(OSError, ValueError):
            host, port = self.upstream.split(":")  # ValueError: not known yet
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            self._connections.add(far_writer)
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        self._connections.discard(writer)
        writer.close()

    async def _pass(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if not self.swallowing:
                    writer.write(data)
                    await writer.drain()
        self._connections.discard(writer)
        writer.close()
