"""Envoy's admin interface over its unix socket. Used by `supervisor` only."""

import asyncio
import json
from pathlib import Path
from typing import Any

from infermesh.gateway import envoy


class Admin:
    """A client of one Envoy. Every call is one connection; it raises OSError while Envoy is not there."""

    def __init__(self, socket: Path, timeout: float = 5.0) -> None:
        self._socket = socket
        self._timeout = timeout

    async def address(self) -> str:
        """Returns the address (host:port) that the public listener has bound, or an empty text before it has."""
        statuses = json.loads(await self._ask("GET", "/listeners?format=json")).get("listener_statuses", ())
        for status in statuses:
            if status["name"] == envoy.LISTENER:
                return _address(status["local_address"]["socket_address"])
        return ""

    async def active(self) -> tuple[int, int]:
        """Returns how many requests are under way, and how many connections are open."""
        names = (envoy.ACTIVE_REQUESTS, envoy.ACTIVE_CONNECTIONS)
        text = await self._ask("GET", f"/stats?filter=^({'|'.join(names)})$")
        found = dict(line.split(": ") for line in text.splitlines())
        return int(found.get(names[0], 0)), int(found.get(names[1], 0))

    async def drain(self) -> None:
        """Makes Envoy tell open connections to go elsewhere, and refuse new ones. Does not wait."""
        await self._ask("POST", "/drain_listeners?graceful&skip_exit")
        await self._ask("POST", "/drain_listeners")

    async def quit(self) -> None:
        """Makes Envoy exit."""
        await self._ask("POST", "/quitquitquit")

    async def _ask(self, method: str, path: str) -> str:
        async with asyncio.timeout(self._timeout):
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
            try:
                head = f"{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                writer.write(head.encode())
                return _body(await reader.read())
            finally:
                writer.close()


def _address(socket_address: dict[str, Any]) -> str:
    host, port = socket_address["address"], socket_address["port_value"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _body(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.decode("latin-1").split("\r\n")
    if " 200 " not in f"{status} ":
        raise OSError(f"envoy's admin interface answered {status!r}")
    if any(h.lower().replace(" ", "") == "transfer-encoding:chunked" for h in headers):
        body = _unchunk(body)
    return body.decode()


def _unchunk(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            break
        whole, body = whole + body[:length], body[length + 2 :]
    return whole
