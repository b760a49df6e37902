"""Runs in a pod: clients that keep the books on every call, and say how it stands once a second, as a line of JSON.

LOAD (JSON) names the deployments and clients. A client `plain` is `grpc.aio` with everything at its defaults; `sdk`
is the SDK's, told not to repeat anything. Calls come at a constant rate, whether earlier ones have been answered or
not. `stalled` is how long the clients themselves stood still at most, for which the mesh is not to blame. SIGUSR1
turns the page of the books. SIGTERM ends the load: what is under way is still awaited, then the last line says `ended`.
"""

import asyncio
import itertools
import json
import os
import signal
import struct
import time

import grpc
import grpc.aio
import numpy as np

from infermesh.client import AsyncClient, Retry
from infermesh.errors import MeshError
from infermesh.oip.v2 import grpc_service_pb2 as oip

INFER = "/inference.GRPCInferenceService/ModelInfer"
ROUND_ROBIN = (("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),)
WIDTH = 4
TICK = 0.005
KEPT = 10  # failures that are told in full; a line of a log has room for 16 KiB


class Books:
    """What became of the calls of one client: each that was begun ends once, as right, failed or wrong."""

    def __init__(self):
        self.begun = self.right = self.failed = self.wrong = 0
        self.turn()

    def turn(self):
        """Begins a new page; what is under way is carried over to it."""
        self.begun -= self.right + self.failed + self.wrong
        self.right = self.failed = self.wrong = 0
        self.took = []
        self.peaks = {}
        self.failures = []

    def end(self, began, when, failure=""):
        took = time.monotonic() - began
        self.took.append(took)
        self.peaks[int(when)] = max(round(took, 3), self.peaks.get(int(when), 0.0))
        if failure:
            self.failures.append({"at": when, "took": round(took, 3), "what": failure})

    def told(self, ended):
        took = sorted(self.took) or [0.0]
        return {
            "begun": self.begun,
            "right": self.right,
            "failed": self.failed,
            "wrong": self.wrong,
            "p50": round(took[len(took) // 2], 4),
            "p99": round(took[len(took) * 99 // 100], 4),
            "slowest": round(took[-1], 3),
            "failures": self.failures[:KEPT],
        } | ({"peaks": self.peaks} if ended else {})


class Client:
    """Calls y = 2x + 1 `rate` times a second; every call has a number, which is its id and decides its answer."""

    def __init__(self, name, target, deployment, rate, timeout=30.0, balance=False, kind="plain"):
        self.name = name
        self._target = target
        self._deployment = deployment
        self._rate = rate
        self._timeout = timeout
        self._options = ROUND_ROBIN if balance else ()
        self._kind = kind
        self.books = Books()

    async def run(self, stop):
        if self._kind == "sdk":
            async with AsyncClient(self._target, retry=Retry(attempts=1)) as client:
                await self._steadily(stop, lambda row, number: self._ask_sdk(client, row))
            return
        async with grpc.aio.insecure_channel(self._target, options=self._options) as channel:
            infer = channel.unary_unary(
                INFER,
                request_serializer=oip.ModelInferRequest.SerializeToString,
                response_deserializer=oip.ModelInferResponse.FromString,
            )
            await asyncio.wait_for(channel.channel_ready(), 30)
            await self._steadily(stop, lambda row, number: self._ask(infer, row, number))

    async def _steadily(self, stop, ask):
        start, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                due = int((time.monotonic() - start) * self._rate)
                while number < due:
                    number += 1
                    self.books.begun += 1
                    group.create_task(self._call(ask, number))
                await asyncio.sleep(TICK)

    async def _call(self, ask, number):
        row = [float(number % (1 << 20)), float(number >> 20), 1.0, 2.0]
        began, when = time.monotonic(), time.time()
        try:
            identifier, got = await ask(row, number)
        except grpc.aio.AioRpcError as error:
            self.books.failed += 1
            self.books.end(began, when, f"{error.code().name}: {error.details()} (call {number})")
            return
        except MeshError as error:
            self.books.failed += 1
            self.books.end(began, when, f"{type(error).__name__}: {error} (call {number})")
            return
        if identifier != str(number) or got != [2 * value + 1 for value in row]:
            self.books.wrong += 1
            self.books.end(began, when, f"WRONG: got {got} for {row} under id {identifier} (call {number})")
            return
        self.books.right += 1
        self.books.end(began, when)

    async def _ask(self, infer, row, number):
        request = oip.ModelInferRequest(model_name=self._deployment, id=str(number))
        request.inputs.add(name="x", datatype="FP32", shape=[1, WIDTH])
        request.raw_input_contents.append(struct.pack(f"<{WIDTH}f", *row))
        answer = await infer(request, timeout=self._timeout)
        return answer.id, list(struct.unpack(f"<{WIDTH}f", answer.raw_output_contents[0]))

    async def _ask_sdk(self, client, row):
        x = np.array([row], np.float32)
        result = await client.infer(self._deployment, {"x": x}, timeout=self._timeout)
        return str(int(row[0]) + (int(row[1]) << 20)), result["y"][0].tolist()


class Streams:
    """Keeps `streams` token streams under way, each of `tokens` tokens; each must come whole and in order.

    Ends by itself once all have been followed by `rounds` - 1 others; 0 goes on until told.
    """

    def __init__(self, name, target, deployment, streams, tokens, timeout=300.0, rounds=0):
        self.name = name
        self._target = target
        self._deployment = deployment
        self._streams = streams
        self._tokens = tokens
        self._timeout = timeout
        self._rounds = rounds
        self._numbers = itertools.count(1)
        self.books = Books()

    async def run(self, stop):
        async with AsyncClient(self._target, retry=Retry(attempts=1)) as client, asyncio.TaskGroup() as group:
            for _ in range(self._streams):
                group.create_task(self._one_after_another(client, stop))

    async def _one_after_another(self, client, stop):
        for done in itertools.count():
            if stop.is_set() or (self._rounds and done >= self._rounds):
                return
            self.books.begun += 1
            number, got, began, when = next(self._numbers), [], time.monotonic(), time.time()
            values = {"stream": number, "start": 0, "count": self._tokens}
            request = {name: np.array([value], np.int64) for name, value in values.items()}
            try:
                async for part in client.infer_stream(self._deployment, request, timeout=self._timeout):
                    got += zip(part["stream"].tolist(), part["token"].tolist(), strict=True)
            except MeshError as error:
                self.books.failed += 1
                self.books.end(
                    began, when, f"{type(error).__name__}: {error} (stream {number} after {len(got)} tokens)"
                )
                await asyncio.sleep(0.2)
                continue
            if got == [(number, token) for token in range(self._tokens)]:
                self.books.right += 1
                self.books.end(began, when)
            else:
                self.books.wrong += 1
                self.books.end(began, when, f"WRONG: stream {number} got {got}")


class Ledger:
    """The books of all clients; `page` counts how often they were turned."""

    def __init__(self, clients):
        self._clients = clients
        self._page = 0
        self._stalled = 0.0

    def turn(self):
        self._page += 1
        self._stalled = 0.0
        for client in self._clients:
            client.books.turn()
        self.tell()

    def tell(self, ended=False):
        books = {client.name: client.books.told(ended) for client in self._clients}
        about = {"page": self._page, "stalled": round(self._stalled, 3), "ended": ended}
        print(json.dumps(books | about), flush=True)

    async def watch(self):
        """Measures how late this process comes to its turns."""
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self._stalled = max(self._stalled, time.monotonic() - due)


async def main():
    load = json.loads(os.environ["LOAD"])
    clients = [Client(**each) for each in load.get("clients", ())] + [
        Streams(**each) for each in load.get("streams", ())
    ]
    ledger, stop = Ledger(clients), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, ledger.turn)
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(ledger.watch())
        running = [group.create_task(client.run(stop)) for client in clients]
        while not all(task.done() for task in running):
            ledger.tell()
            await asyncio.sleep(1)
        watch.cancel()
    ledger.tell(ended=True)


if __name__ == "__main__":
    asyncio.run(main())
