"""The asynchronous client. Part of the public SDK; the synchronous one drives it."""

from types import TracebackType

from infermesh.client.catalog import CatalogCalls
from infermesh.client.connection import Connection
from infermesh.client.deployments import DeploymentCalls
from infermesh.client.inference import InferenceCalls
from infermesh.client.retry import Retry
from infermesh.client.tls import Tls


class AsyncClient(CatalogCalls, DeploymentCalls, InferenceCalls):
    """Talks to a mesh through its gateway.

    Construct inside a running event loop and use it there only; it is safe for any number of tasks at once. `address`
    is the gateway's host:port, also as a URL; `timeout` (seconds) the deadline of every call that names none; `retry`
    says how patiently safe calls are repeated; `tls` (True, or the files of `Tls`) that the connection is encrypted, as
    it is with an address that begins with `https://`. Every failure is an error of `infermesh.errors`.

        async with AsyncClient("127.0.0.1:8080") as client:
            result = await client.infer("digits", {"image": images})
            result["logits"]
    """

    def __init__(
        self, address: str, *, timeout: float = 30.0, retry: Retry | None = None, tls: bool | Tls = False
    ) -> None:
        self._connection = Connection(address, timeout=timeout, retry=retry, tls=tls)

    @property
    def address(self) -> str:
        """The gateway's address."""
        return self._connection.address

    async def close(self) -> None:
        """Closes the connection; calls under way end with Cancelled."""
        await self._connection.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
