"""TLS to a gateway: how it is asked for, and where it follows from the address. Part of the public SDK."""

from dataclasses import dataclass
from typing import Final

from infermesh.errors import InvalidInput
from infermesh.mesh.tls import Certificates

_SECURE: Final = ("https://", "grpcs://")
_PLAIN: Final = ("http://", "grpc://")


@dataclass(frozen=True)
class Tls:
    """Files in PEM, read when the client is made, and again when they have changed.

    `ca`: the authorities that the gateway's certificate may be from; empty: those that gRPC brings. `cert` and `key`:
    what the client shows to a gateway that asks for it. `server_name`: the name that the gateway's certificate must
    carry, if it is not the one in the address.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""


def certificates(address: str, tls: bool | Tls) -> Certificates | None:
    """Returns what to speak TLS with, None for plaintext. An address with `https://` or `grpcs://` needs no `tls`.

    Raises InvalidInput if the address says otherwise, ConfigError naming the file that can't be used.
    """
    if tls and address.startswith(_PLAIN):
        raise InvalidInput(f"address: expected https://, grpcs:// or host:port with TLS, got {address!r}")
    if not tls and not address.startswith(_SECURE):
        return None
    return Certificates(tls if isinstance(tls, Tls) else Tls())
