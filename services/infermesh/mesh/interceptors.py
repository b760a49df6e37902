"""What every gRPC server of the mesh does around each call."""

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog
from grpc_status import rpc_status
from opentelemetry.trace import SpanKind, Tracer
from prometheus_client import Histogram

from infermesh.mesh import status, telemetry

Handler = Callable[[Any, Any], Any]


class _Interceptor(grpc.aio.ServerInterceptor):
    """Wraps handlers of all four arities with one of two methods: `_single` answers once, `_stream` many times."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Returns the handler of a call, wrapped; None for an unknown method."""
        handler = await continuation(details)
        if handler is None:
            return None
        codecs = (handler.request_deserializer, handler.response_serializer)
        method = details.method
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(handler.stream_stream, method), *codecs)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream, method), *codecs)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._single(handler.stream_unary, method), *codecs)
        return grpc.unary_unary_rpc_method_handler(self._single(handler.unary_unary, method), *codecs)

    def _single(self, handler: Handler, method: str) -> Handler:
        raise NotImplementedError

    def _stream(self, handler: Handler, method: str) -> Handler:
        raise NotImplementedError


class ErrorInterceptor(_Interceptor):
    """Ends a call with the rich status of the error that its handler raised.

    An abort by the handler itself keeps its code; an exception from outside the tree becomes INTERNAL with a request
    id, and is logged under that id.
    """

    def __init__(self) -> None:
        self._log = structlog.get_logger("infermesh.rpc")

    def _single(self, handler: Handler, method: str) -> Handler:
        async def call(request: Any, context: Any) -> Any:
            try:
                return await handler(request, context)
            except Exception as error:
                await self._end(error, context, method)

        return call

    def _stream(self, handler: Handler, method: str) -> Handler:
        if not inspect.isasyncgenfunction(handler):
            return self._single(handler, method)  # it reads and writes through the context itself

        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                async for response in handler(request, context):
                    yield response
            except Exception as error:
                await self._end(error, context, method)

        return call

    async def _end(self, error: Exception, context: Any, method: str) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        shown = status.public(error)
        if shown is not error:
            self._log.error("unexpected error", method=method, request_id=shown.metadata["request_id"], exc_info=error)
        await context.abort_with_status(rpc_status.to_status(status.to_status(shown)))
        raise error  # not reached: abort raises


class ObserveInterceptor(_Interceptor):
    """Times unary calls into a histogram by method and code, and records a span for those that came with a trace.

    Stands outside the ErrorInterceptor, so that it sees the code that the caller gets.
    """

    def __init__(self, seconds: Histogram, tracer: Tracer) -> None:
        self._seconds = seconds
        self._tracer = tracer

    def _single(self, handler: Handler, method: str) -> Handler:
        async def call(request: Any, context: Any) -> Any:
            began = time.perf_counter()
            try:
                with self._span(method, context):
                    return await handler(request, context)
            finally:
                code = context.code() or grpc.StatusCode.OK
                name = code.name if isinstance(code, grpc.StatusCode) else str(code)
                self._seconds.labels(method, name).observe(time.perf_counter() - began)

        return call

    def _stream(self, handler: Handler, method: str) -> Handler:
        return handler

    def _span(self, method: str, context: Any) -> Any:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        parent = telemetry.extract(*telemetry.carrier_of(metadata))
        attributes = {"rpc.system.name": "grpc", "rpc.method": method.removeprefix("/")}
        return self._tracer.start_as_current_span(
            method.removeprefix("/"), context=parent, kind=SpanKind.SERVER, attributes=attributes
        )
