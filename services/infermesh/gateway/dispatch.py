"""Sends calls to workers, late: a call waits here until a worker that has its model has credit for it."""

import asyncio
from collections.abc import AsyncIterator

from infermesh.gateway.calls import Call


class Dispatcher:
    """Front ends call `infer` and `stream`; both return at once and never raise."""

    def infer(self, call: Call) -> asyncio.Future[bytes]:
        """Returns the future of a serialised `inference.ModelInferResponse`.

        Its exception is a MeshError. Cancelling the future cancels the call at the worker.
        """
        raise NotImplementedError

    def stream(self, call: Call) -> AsyncIterator[bytes]:
        """Returns the responses as they come; iterating raises MeshError. Closing it (`aclose`) cancels the call."""
        raise NotImplementedError
