"""How long calls wait for a target whose workers are all away. Used by the dispatcher."""

import asyncio

from infermesh.gateway import admission
from infermesh.gateway.targets import TargetState


class Holds:
    """Gives a target `seconds` to come back, counted from when its last worker was lost.

    A worker's restart is worth waiting for. When the time is up, what waits is refused, and so is what comes later,
    until a worker is back.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds

    def look(self, target: TargetState) -> bool:
        """Returns whether the target has a worker now; if not, its time runs."""
        if target.live():
            target.hopeful = True
            target.stop_hold()
            return True
        if target.hopeful and target.hold_timer is None and target.routed:
            target.hold_timer = self._loop.call_later(self._seconds, self._give_up, target)
        return False

    def _give_up(self, target: TargetState) -> None:
        target.hold_timer, target.hopeful = None, False
        for pending in target.drain():
            pending.fail(admission.no_worker(pending.call, self._seconds, target.route.retry_after))
