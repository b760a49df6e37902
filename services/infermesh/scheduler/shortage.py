"""Says in words why no worker can take a version. Pure; a step of planning."""

from collections.abc import Sequence

from infermesh.scheduler.ledger import Ledger
from infermesh.scheduler.memory import show
from infermesh.scheduler.wants import Want


def explain(want: Want, ledgers: Sequence[Ledger]) -> str:
    """Returns what is missing for one more replica of `want`; the first hindrance that rules out every worker."""
    if want.failed:
        return "it failed to load and is not tried on other workers"
    if not ledgers:
        return "no worker is alive"
    pool = want.deployment.pool
    where = f" in pool '{pool}'" if pool else ""
    members = [ledger for ledger in ledgers if not pool or ledger.worker.pool == pool]
    if not members:
        return f"no worker{where}"
    staying = [ledger for ledger in members if not ledger.worker.draining]
    if not staying:
        return f"every worker{where} is draining"
    on_device = [ledger for ledger in staying if not want.device or ledger.worker.device == want.device]
    if not on_device:
        return f"needs {want.device}, no worker{where} has it"
    fitting = [ledger for ledger in on_device if want.fits(ledger.worker)]
    if not fitting:
        place = f" with {want.device}" if want.device else ""
        return f"needs backend '{want.version.backend}', no worker{where}{place} has it"
    return _occupied(want, fitting)


def _occupied(want: Want, fitting: Sequence[Ledger]) -> str:
    empty = [ledger for ledger in fitting if want.target not in ledger.assigned]
    if not empty:
        return f"needs {want.replicas} workers, only {len(fitting)} can hold it"
    clear = [ledger for ledger in empty if want.target not in ledger.held]
    if not clear:
        return f"still being unloaded on worker {empty[0].worker.id}"
    roomiest = max(clear, key=lambda ledger: ledger.free() or 0)
    free = show(roomiest.free() or 0)
    return f"needs {show(want.version.memory)}, largest free is {free} on worker {roomiest.worker.id}"
