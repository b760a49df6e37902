"""Options that several commands share, and the client that they lead to. Used by the command modules."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from infermesh.errors import NotFound

if TYPE_CHECKING:
    from infermesh.client import Client

DEFAULT_HOME: Final = Path(".infermesh")


class Format(StrEnum):
    """How results are printed."""

    table = "table"
    json = "json"


Address = Annotated[
    str,
    typer.Option(
        "--address",
        "-a",
        envvar="INFERMESH_ADDRESS",
        help="host:port or URL of the gateway; default: the local mesh's.",
    ),
]
Home = Annotated[
    Path, typer.Option("--home", envvar="INFERMESH_HOME", help="Folder of the local mesh (see `infermesh up`).")
]
Output = Annotated[Format, typer.Option("--output", "-o", help="For people, or for machines.")]


@dataclass(frozen=True)
class TlsOptions:
    """The options `--tls…`, which stand before the command."""

    on: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""


TLS: Final[ContextVar[TlsOptions]] = ContextVar("tls")
"""What this run of the command line was told of TLS."""

Timeout = Annotated[float, typer.Option("--timeout", help="Seconds until it is given up.", min=0.0)]


def find_address(address: str, home: Path) -> str:
    """Returns `address`, or if it is empty that of the mesh running on `home`. Raises NotFound if there is none."""
    if address:
        return address
    file = home / "run" / "mesh.json"
    try:
        return str(json.loads(file.read_text())["gateway"])
    except FileNotFoundError:
        hint = "start one with `infermesh up`, or name a gateway with --address or INFERMESH_ADDRESS"
        raise NotFound.of("mesh", str(home), hint) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFound.of("mesh", str(file), f"the file can't be read ({error}); use --address") from error


def encrypted(address: str) -> bool:
    """Tells whether a client of this run would speak TLS to `address`."""
    return address.startswith(("https://", "grpcs://")) or TLS.get(TlsOptions()) != TlsOptions()


@contextmanager
def connected(address: str, home: Path, timeout: float = 30.0, *, patient: bool = True) -> Iterator["Client"]:
    """Gives a client of the mesh at `address`, or of the one on `home`; closes it at the end. Raises NotFound.

    A `patient` one repeats safe calls while the mesh is away for a moment.
    """
    from infermesh.client import Client, Retry, Tls  # bring grpc and numpy, which `--help` can do without

    retry, told = Retry() if patient else Retry(attempts=1), TLS.get(TlsOptions())
    files = Tls(told.ca, told.cert, told.key, told.server_name)
    tls = files if files != Tls() else told.on
    with Client(find_address(address, home), timeout=timeout, retry=retry, tls=tls) as client:
        yield client
