"""What every gRPC server of the mesh does around each call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog
from grpc_status import rpc_status

from infermesh.errors import MeshError
from infermesh.mesh import status

_Handler = Callable[[Any, Any], Any]


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Ends a call with the rich status of the error that its handler raised.

    Works for all four arities. An abort by the handler itself keeps its code; an exception from outside the tree
    becomes INTERNAL with a request id, and is logged under that id.
    """

    def __init__(self) -> None:
        self._log = structlog.get_logger("infermesh.rpc")

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Returns the handler of a call, wrapped."""
        handler = await continuation(details)
        if handler is None:
            return None
        method = details.method
        if handler.request_streaming and handler.response_streaming:
            wrapped = grpc.stream_stream_rpc_method_handler
            return wrapped(self._stream(handler.stream_stream, method), *_codecs(handler))
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream, method), *_codecs(handler))
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._single(handler.stream_unary, method), *_codecs(handler))
        return grpc.unary_unary_rpc_method_handler(self._single(handler.unary_unary, method), *_codecs(handler))

    def _single(self, handler: _Handler, method: str) -> _Handler:
        async def call(request: Any, context: Any) -> Any:
            try:
                return await handler(request, context)
            except Exception as error:
                await self._end(error, context, method)

        return call

    def _stream(self, handler: _Handler, method: str) -> _Handler:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                result = handler(request, context)
                if hasattr(result, "__aiter__"):
                    async for response in result:
                        yield response
                else:  # a handler may also write to the context itself
                    await result
            except Exception as error:
                await self._end(error, context, method)

        return call

    async def _end(self, error: Exception, context: Any, method: str) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        shown = status.public(error) if not isinstance(error, MeshError) else error
        if not isinstance(error, MeshError):
            self._log.error("unexpected error", method=method, request_id=shown.metadata["request_id"], exc_info=error)
        await context.abort_with_status(rpc_status.to_status(status.to_status(shown)))
        raise asyncio.CancelledError  # not reached: abort raises


def _codecs(handler: Any) -> tuple[Any, Any]:
    return handler.request_deserializer, handler.response_serializer
