"""Keeps the ports of services that are away from everybody else, so that they can come back where they were."""

import contextlib
import socket
import sys
from collections.abc import Iterable
from typing import Final

_SHARED: Final = sys.platform == "linux"
"""Elsewhere a server can't bind beside a socket that is bound already, however silent that is."""


class HeldPorts:
    """Ports of this machine that only a server which is told of them gets.

    A bound socket that never listens does it: a server that sets SO_REUSEADDR, as all of ours do, binds beside it,
    while the system gives the port neither to who asks for a free one nor to a connection's own end. Best effort.
    """

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}

    def hold(self, addresses: Iterable[str]) -> None:
        """Begins to hold what nobody listens on now; what is held already stays so, whoever listens."""
        for address in addresses:
            if _SHARED and address not in self._sockets:
                with contextlib.suppress(OSError):
                    self._sockets[address] = _bound(address)

    def release(self) -> None:
        """Lets go of everything."""
        for held in self._sockets.values():
            held.close()
        self._sockets.clear()


def _bound(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    family, kind, protocol, _, place = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    held = socket.socket(family, kind, protocol)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(place)
    except OSError:
        held.close()
        raise
    return held
