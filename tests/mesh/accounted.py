"""Calls of which none may be lost, doubled or mixed up: clients that keep the books while a test does things to a mesh.

They know the addresses of all gateways, follow GOAWAY, reconnect, and repeat nothing.
"""

import asyncio
import itertools
import struct
import threading
import time
from collections import Counter

import grpc
import grpc.aio

from infermesh.client import AsyncClient, Retry
from infermesh.errors import MeshError
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.testing.tokens import token_request
from tests.mesh.models import WIDTH

INFER = "/inference.GRPCInferenceService/ModelInfer"
ROUND_ROBIN = (("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),)
PATIENCE = 30.0  # seconds that a call may take: restarts cost latency, never an answer
_TICK = 0.005


def target_of(addresses):
    """Returns the gRPC target that stands for all of them."""
    return "ipv4:" + ",".join(addresses)


class _Background:
    """A coroutine in a thread of its own, from when it is entered until it is left; `failures` says what went wrong."""

    def __init__(self):
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=type(self).__name__)
        self.failures: list[str] = []
        self.now = ""
        """What the test is about to do, for the failures' sake."""

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self._stop.set()
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive(), "calls are under way that never end"
        if error is None:
            self.balance()

    def balance(self):
        """Checks the books at the end."""
        raise NotImplementedError

    async def _run(self):
        raise NotImplementedError


class Accounted(_Background):
    """Calls `deployment` (y = 2x + 1) `rate` times a second, whether earlier calls have been answered or not.

    A plain `grpc.aio` client with everything at its defaults. With `most` calls under way none is begun: the machine is
    too slow for that rate. Every call has a number, which is its id and, in its input, decides its answer. `answered`
    counts the right answers, `failures` tells of all other ends.
    """

    def __init__(self, addresses, deployment, rate, *, most=2_000):
        super().__init__()
        self._most = most
        self._target = target_of(addresses)
        self._deployment = deployment
        self._rate = rate
        self._under_way: set[int] = set()
        self.begun = 0
        self.answered = 0
        self.slowest = 0.0

    def balance(self):
        """Checks that every call that was begun has ended once."""
        assert not self._under_way
        assert self.begun == self.answered + len(self.failures)

    def more(self, calls, timeout=60.0):
        """Waits until that many more calls have ended."""
        self.until(self.answered + len(self.failures) + calls, timeout)

    def until(self, calls, timeout=60.0):
        """Waits until that many calls have ended since the beginning."""
        limit = time.monotonic() + timeout
        while self.answered + len(self.failures) < calls:
            assert time.monotonic() < limit, f"only {self.answered} answers, {self.failures[:3]}"
            time.sleep(0.01)

    def __str__(self):
        kinds = Counter(failure.partition(":")[0] for failure in self.failures)
        return f"{self.answered} of {self.begun} answered, slowest {self.slowest:.2f} s, failures {dict(kinds)}"

    async def _run(self):
        async with (
            grpc.aio.insecure_channel(self._target, options=ROUND_ROBIN) as channel,
            asyncio.TaskGroup() as group,
        ):
            infer = channel.unary_unary(
                INFER,
                request_serializer=oip.ModelInferRequest.SerializeToString,
                response_deserializer=oip.ModelInferResponse.FromString,
            )
            await asyncio.wait_for(channel.channel_ready(), PATIENCE)
            start, number = time.monotonic(), 0
            while not self._stop.is_set():
                due = int((time.monotonic() - start) * self._rate)
                while number < due:
                    number += 1
                    if len(self._under_way) < self._most:
                        self.begun += 1
                        self._under_way.add(number)
                        group.create_task(self._call(infer, number))
                await asyncio.sleep(_TICK)

    async def _call(self, infer, number):
        row = [float(number % (1 << 20)), float(number >> 20), 1.0, 2.0]
        request = oip.ModelInferRequest(model_name=self._deployment, id=str(number))
        request.inputs.add(name="x", datatype="FP32", shape=[1, WIDTH])
        request.raw_input_contents.append(struct.pack(f"<{WIDTH}f", *row))
        began, when = time.monotonic(), self.now
        try:
            answer = await infer(request, timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            text = f"{error.code().name}: {error.details()}"
            self.failures.append(f"{text}; call {number}, {when} to {self.now}, {time.monotonic() - began:.2f} s")
        else:
            got = list(struct.unpack(f"<{WIDTH}f", answer.raw_output_contents[0]))
            if answer.id != str(number) or got != [2 * value + 1 for value in row]:
                self.failures.append(f"WRONG: call {number} got {got} for {row}, with the id {answer.id}")
            else:
                self.answered += 1
        finally:
            self._under_way.remove(number)
            self.slowest = max(self.slowest, time.monotonic() - began)


class TokenStreams(_Background):
    """Keeps `streams` token streams of `deployment` (`push_tokens`) under way, each of `tokens` tokens.

    Our own client. A stream that has ended is followed by another; what is under way at the end is read to its end.
    `whole` counts those of which every token came once and in order, `failures` tells of the others.
    """

    def __init__(self, addresses, deployment, *, streams, tokens):
        super().__init__()
        self._target = target_of(addresses)
        self._deployment = deployment
        self._streams = streams
        self._tokens = tokens
        self._numbers = itertools.count(1)
        self.begun = 0
        self.whole = 0
        self.flowing = 0
        """Streams of which the first token has come, but not the last."""

    def balance(self):
        """Checks that every stream that was begun has ended once."""
        assert self.begun == self.whole + len(self.failures)

    def wait_flowing(self, timeout=30.0):
        """Waits until every stream is between its first and its last token."""
        limit = time.monotonic() + timeout
        while self.flowing < self._streams:
            assert time.monotonic() < limit, f"only {self.flowing} streams flow, {self.failures[:3]}"
            time.sleep(0.01)

    def __str__(self):
        return f"{self.whole} of {self.begun} token streams whole"

    async def _run(self):
        async with AsyncClient(self._target, retry=Retry(attempts=1)) as client, asyncio.TaskGroup() as group:
            for _ in range(self._streams):
                group.create_task(self._one_after_another(client))

    async def _one_after_another(self, client):
        while not self._stop.is_set():
            self.begun += 1
            number, got, when = next(self._numbers), [], self.now
            request = token_request(number, self._tokens)
            try:
                async for part in client.infer_stream(self._deployment, request, timeout=2 * PATIENCE):
                    self.flowing += not got
                    got += [
                        (int(stream), int(token)) for stream, token in zip(part["stream"], part["token"], strict=True)
                    ]
            except MeshError as error:
                text = f"{type(error).__name__}: {error}"
                self.failures.append(f"{text}; stream {number} after {len(got)} tokens, {when} to {self.now}")
                continue
            finally:
                self.flowing -= bool(got)
            if got == [(number, token) for token in range(self._tokens)]:
                self.whole += 1
            else:
                self.failures.append(f"WRONG: stream {number} got {got}")
