"""What a held version knows of requests that its runner died on. Used by `models` and `executor`.

Everything that was executed when a runner died is suspect: it, and whatever asks the same, is executed alone from then
on. A runner that dies again on a suspect that was alone proves it guilty: it is quarantined, for as long as the
version is held. A runner that dies with nothing to do, or while it loads, is nobody's fault.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from infermesh.errors import QueryOfDeath, RunnerDied
from infermesh.mesh.fingerprint import Fingerprints, fingerprint
from infermesh.mesh.wire import Bytes
from infermesh.v1 import worker_service_pb2 as pb

_MOST_SUSPECTS: Final = 4096
_MOST_QUARANTINED: Final = 256
_UNTRIED: Final = 30.0  # seconds with a new runner after which a suspect that nobody asks any more is forgotten
_OUTSIDE: Final = frozenset({"killed by SIGKILL", "killed by SIGTERM"})  # ends that somebody else brings about


class Suspicion:
    """Suspects and quarantined requests of one version, by fingerprint; the oldest go when there are too many.

    `changed` is called after every change. Belongs to the event loop in which it is made.
    """

    def __init__(self, model: str, version: str, changed: Callable[[], None]) -> None:
        self._model, self._version, self._changed = model, version, changed
        self._suspects: dict[bytes, None] = {}
        self._quarantined: dict[bytes, None] = {}
        self._crashed = False
        self._known = Fingerprints()
        self._forgetting: asyncio.TimerHandle | None = None
        self.revision = 0
        """Differs after every change."""
        self.any = False
        """Whether there is anything against any request; nothing need be asked otherwise."""

    @property
    def quarantined(self) -> int:
        """How many requests are refused."""
        return len(self._quarantined)

    def suspect(self, payloads: Iterable[Bytes], death: RunnerDied) -> None:
        """Takes in the requests that were executed together when a runner died."""
        self._suspects |= {found: None for found in map(fingerprint, payloads) if found not in self._quarantined}
        while len(self._suspects) > _MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]
        self._remember()
        self._crashed |= death.metadata.get("ended") not in _OUTSIDE
        self._update()

    def convict(self, payload: Bytes) -> None:
        """Takes in that a runner died on a suspect that was alone."""
        found = fingerprint(payload)
        self._suspects.pop(found, None)
        self._remember()
        self._quarantined[found] = None
        if len(self._quarantined) > _MOST_QUARANTINED:
            del self._quarantined[next(iter(self._quarantined))]
        self._update()

    def acquit(self, payload: Bytes) -> None:
        """Takes in that a request was executed alone and the runner lives."""
        if self._suspects.pop(fingerprint(payload), self) is None:
            self._update()

    def refusal(self, payload: Bytes) -> QueryOfDeath | None:
        """Returns the error of a request that is quarantined."""
        guilty = self._known.match(payload) in self._quarantined
        return QueryOfDeath.of(self._model, self._version) if guilty else None

    def suspected(self, payload: Bytes) -> bool:
        """Tells whether a request is a suspect, and must be executed alone."""
        return self._known.match(payload) in self._suspects

    def runner_is_back(self) -> None:
        """Gives those that ask for suspects some time to come back; then these are forgotten."""
        self._remember()
        if self._suspects:
            self._forgetting = asyncio.get_running_loop().call_later(_UNTRIED, self._forget)

    def _remember(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None

    def _forget(self) -> None:
        self._forgetting = None
        self._suspects.clear()
        self._update()

    def _update(self) -> None:
        self._crashed &= bool(self._suspects)
        self._known = Fingerprints([*self._suspects, *self._quarantined])
        self.any = bool(self._known.all)
        self.revision += 1
        self._changed()

    def message(self, target: str) -> pb.Suspicion:
        """Returns all of it, as gateways are told."""
        return pb.Suspicion(
            target=target, suspects=self._suspects, quarantined=self._quarantined, crashed=self._crashed
        )
