"""Methods of every kind, for a front in a test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from infermesh.errors import MeshError
from infermesh.gateway.framing.methods import Context, Method
from infermesh.gateway.framing.outlet import Outlet


class Running:
    """A direct call under way."""

    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


class Service:
    """Methods of every kind. Unary ones of both ways tell by what they answer which one it was."""

    def __init__(self) -> None:
        self.begin: Callable[[bytes, Any], None] = lambda data, reply: reply.answer(b"direct " + data)
        """What a direct call does first."""
        self.replies: list[Any] = []
        self.running: list[Running] = []
        self.contexts: list[Context] = []
        self.cancelled = 0
        """Calls on the long way whose handlers were cancelled."""

    def methods(self) -> dict[str, Method]:
        """Returns them by path."""
        made = {
            "Direct": Method(self._long, direct=self._direct),
            "Unary": Method(self._long),
            "Hang": Method(self._hang),
            "Many": Method(self._many, server_stream=True),
            "Push": Method(lambda data, context: Pushed(data), server_stream=True, pushes=True),
            "Collect": Method(self._collect, client_stream=True),
            "Chat": Method(self._chat, client_stream=True, server_stream=True),
            "Deaf": Method(self._deaf, client_stream=True, server_stream=True),
            "Mute": Method(self._hang, client_stream=True),
            "Stand": Method(self._stand, server_stream=True, standing=True),
        }
        return {f"/test.Service/{name}": method for name, method in made.items()}

    def _direct(self, data: bytes, reply: Any) -> Running:
        self.replies.append(reply)
        self.running.append(running := Running())
        self.begin(data, reply)
        return running

    async def _long(self, data: bytes, context: Context) -> bytes:
        self.contexts.append(context)
        return b"long " + data

    async def _hang(self, request: Any, context: Context) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1
        return b""

    async def _many(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        for size in data.split():
            yield bytes(int(size))

    async def _collect(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        return b"+".join([request async for request in requests])

    async def _chat(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for request in requests:
            yield b"you said " + request

    async def _deaf(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick"
                await asyncio.sleep(1)
        finally:
            self.cancelled += 1

    async def _stand(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        yield b"still"
        await asyncio.Event().wait()


class Pushed:
    """Has what was asked for pulled, a word in each turn of the loop; `!` fails."""

    def __init__(self, data: bytes) -> None:
        self._words = data.split()
        self._ready: list[bytes] = []

    async def push(self, outlet: Outlet) -> None:
        outlet.open(self._pull)
        for word in self._words:
            if word == b"!":
                raise MeshError("it went wrong")
            self._ready.append(word)
            outlet.news()
            await asyncio.sleep(0)

    def _pull(self) -> list[bytes]:
        ready, self._ready = self._ready, []
        return ready
