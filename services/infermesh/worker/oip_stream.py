"""ModelStreamInfer of callers that talk to one worker directly. Used by `oip_servicer`."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final

from infermesh.errors import MeshError, Overloaded
from infermesh.mesh import status
from infermesh.mesh.parcel import joined
from infermesh.mesh.wire import varint
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.worker.calls import Call
from infermesh.worker.models import HeldModel

_UNREAD: Final = 8 << 20  # bytes of responses that a caller may be behind
_FINAL: Final = "triton_final_response"
_INFER_RESPONSE: Final = b"\x12"  # the tag of field 2 of ModelStreamInferResponse
_ENTRIES: Final = {
    final: oip.ModelInferResponse(parameters={_FINAL: oip.InferParameter(bool_param=final)}).SerializeToString()
    for final in (False, True)
}

Begin = Callable[[bytes, "InferStream"], tuple[HeldModel, Call]]


class InferStream:
    """One stream: many requests, each answered as its own call; responses go out as they come."""

    def __init__(self, begin: Begin, *, as_status: bool) -> None:
        """`begin` submits a call whose responses come to the stream; it raises what the request is refused with.

        With `as_status` an error ends the stream, else it is told in a message.
        """
        self._begin, self._as_status = begin, as_status
        self._under_way: dict[Call, HeldModel] = {}
        self._out: deque[bytes] = deque()
        self._unread = 0
        self._failure: BaseException | None = None
        self._news = asyncio.Event()
        self._read_all = False

    async def run(self, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yields serialised responses until every request is answered."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while True:
                self._news.clear()
                while self._out:
                    message = self._out.popleft()
                    self._unread -= len(message)
                    yield message
                if self._failure is not None:
                    raise self._failure
                if self._read_all and not self._under_way:
                    return
                await self._news.wait()
        finally:
            reader.cancel()
            for call, model in self._under_way.items():
                model.cancel(call)

    def emit(self, call: Call, response: bytes) -> None:
        """Takes a response that is not the last of its call."""
        self._put(response, final=False)
        if self._unread > _UNREAD:
            self._under_way.pop(call).cancel(call)
            text = f"more than {_UNREAD} bytes of responses were not read in time"
            self._fail(call.request.id, Overloaded(text, reason="READER_TOO_SLOW"))

    def finish(self, call: Call) -> None:
        """Takes the end of a call."""
        self._under_way.pop(call, None)
        if call.error is not None:
            self._fail(call.request.id, call.error)
        elif call.response:
            self._put(joined(call.response), final=True)
        self._news.set()

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        async for payload in requests:
            try:
                model, call = self._begin(payload, self)
            except MeshError as error:
                self._fail("", error)
            else:
                self._under_way[call] = model
        self._read_all = True
        self._news.set()

    def _put(self, response: bytes, *, final: bool) -> None:
        body = response + _ENTRIES[final]
        self._push(_INFER_RESPONSE + varint(len(body)) + body)

    def _fail(self, request_id: str, error: BaseException) -> None:
        error = status.public(error)
        if self._as_status:
            self._failure = self._failure or error
        else:
            answer = oip.ModelInferResponse(id=request_id)
            answer.parameters[_FINAL].bool_param = True
            told = oip.ModelStreamInferResponse(error_message=error.message, infer_response=answer)
            self._push(told.SerializeToString())
        self._news.set()

    def _push(self, message: bytes) -> None:
        self._out.append(message)
        self._unread += len(message)
        self._news.set()
