"""A channel over TLS that dials with the certificates of now, not those of when it was made. Used by `channel`."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

import grpc
import grpc.aio

from infermesh.mesh.tls import Certificates, Pem, channel_credentials

_SERVER_NAME: Final = "grpc.ssl_target_name_override"


class SecureChannel(grpc.aio.Channel):
    """Puts another gRPC channel in its place once the certificates have changed.

    Calls under way stay where they are, on a connection that lasts as long as they do.
    """

    def __init__(self, address: str, options: Sequence[tuple[str, Any]], certificates: Certificates) -> None:
        name = certificates.server_name
        self._address = address
        self._options = (*options, *([(_SERVER_NAME, name)] if name else []))
        self._certificates = certificates
        self._pem = certificates.latest()
        self._inner = self._dial(self._pem)
        # forgotten with the channel that they belong to, which would otherwise stay, and dial for ever
        self._methods: WeakKeyDictionary[_Callable, Any] = WeakKeyDictionary()
        self._closed = False

    def _dial(self, pem: Pem) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(self._address, channel_credentials(pem), options=self._options)

    def _latest(self) -> grpc.aio.Channel:
        latest = self._certificates.latest()
        if latest is not self._pem and not self._closed:
            # the one before is not closed, which would end its calls: it goes with the last of them
            self._pem, self._inner = latest, self._dial(latest)
            self._methods.clear()
        return self._inner

    def method(self, wanted: "_Callable") -> Any:
        """Returns what makes a call that begins now."""
        inner = self._latest()
        found = self._methods.get(wanted)
        if found is None:
            found = self._methods[wanted] = getattr(inner, wanted.arity)(*wanted.method, **wanted.codecs)
        return found

    def unary_unary(self, *method: Any, **codecs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return _Callable(self, "unary_unary", method, codecs)

    def unary_stream(self, *method: Any, **codecs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return _Callable(self, "unary_stream", method, codecs)

    def stream_unary(self, *method: Any, **codecs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return _Callable(self, "stream_unary", method, codecs)

    def stream_stream(self, *method: Any, **codecs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return _Callable(self, "stream_stream", method, codecs)

    async def close(self, grace: float | None = None) -> None:
        """Closes the channel; calls under way on it end after `grace` seconds at the latest."""
        self._closed = True
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel`."""
        return self._latest().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel`."""
        await self._latest().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See `grpc.aio.Channel`."""
        await self._latest().channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Callable:
    """One method: calls it on the channel of now."""

    def __init__(self, channel: SecureChannel, arity: str, method: tuple[Any, ...], codecs: dict[str, Any]) -> None:
        self._channel = channel
        self.arity, self.method, self.codecs = arity, method, codecs

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._channel.method(self)(*arguments, **options)
