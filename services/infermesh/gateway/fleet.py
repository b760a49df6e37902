"""The workers that routes lead to: one link for each, made and retired as snapshots come. Used by the dispatcher."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from infermesh.gateway.pending import Pending
from infermesh.gateway.upstream import Link, WorkerKey
from infermesh.v1.scheduler_service_pb2 import RouteWorker


class Fleet:
    """Links by worker. `make` builds one; the fleet runs it."""

    def __init__(self, make: Callable[[WorkerKey], Link]) -> None:
        self._make = make
        self._current: dict[str, Link] = {}
        self._running: dict[Link, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def __iter__(self) -> Iterator[Link]:
        """Yields every link that runs, the retired ones included."""
        return iter(self._running)

    def link(self, worker: str) -> Link | None:
        """Returns the link to a worker that routes name."""
        return self._current.get(worker)

    def trusted(self, worker: str) -> bool:
        """Tells whether the stream to a worker is whole, so that the worker itself is proof that it is there."""
        link = self._current.get(worker)
        return link is not None and link.live and not link.calls.draining

    def sync(self, workers: Iterable[RouteWorker]) -> None:
        """Makes links for new workers and retires those that are not among `workers`."""
        wanted = {
            w.id: (WorkerKey(w.id, w.bundle_address or w.address, w.incarnation), w.weight or 1.0) for w in workers
        }
        for worker, link in list(self._current.items()):
            if worker not in wanted or wanted[worker][0] != link.key:
                del self._current[worker]
                link.retire()
        for worker, (key, weight) in wanted.items():
            if worker not in self._current:
                self._current[worker] = self._start(key)
            self._current[worker].calls.set_weight(weight)

    def _start(self, key: WorkerKey) -> Link:
        link = self._make(key)
        if self._tasks is None:
            raise RuntimeError("the fleet is not running")
        task = self._running[link] = self._tasks.create_task(link.run(), name=f"link {key.id}")
        task.add_done_callback(lambda _: self._running.pop(link, None))
        return link

    def run_in(self, tasks: asyncio.TaskGroup) -> None:
        """Gives the links the group that their tasks belong to; before the first `sync`."""
        self._tasks = tasks

    def stop(self) -> list[Pending]:
        """Ends every link and returns the calls that were under way."""
        self._current.clear()
        left = [pending for link in self._running for pending in link.calls.give_up()]
        for task in list(self._running.values()):
            task.cancel()
        return left


def _key(worker: RouteWorker) -> WorkerKey:
    return WorkerKey(worker.id, worker.bundle_address or worker.address, worker.incarnation)
