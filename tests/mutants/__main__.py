"""`python -m tests.mutants [NAME…]`: plants the faults, all or those named, and prints which the tests notice.

Exit status 1 if one is not noticed, has lost its place, or the tests fail without any; 2 for a name that there isn't.
"""

import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.mutant import Misplaced, Mutant
from tests.mutants.table import MUTANTS
from tests.mutants.workshop import Workshop

_SECONDS = 300.0


def _verdict(workshop: Workshop, mutant: Mutant) -> str:
    try:
        outcome = workshop.run(mutant.tests, mutant, _SECONDS)
    except Misplaced as error:
        return f"MISPLACED {error}"
    if outcome.failed:
        return "caught"
    return (
        f"SURVIVED ({mutant.breaks})" if outcome.passed else f"BROKE status {outcome.status}: {outcome.output[-800:]}"
    )


def main(names: list[str]) -> int:
    """Returns the exit status."""
    known = {mutant.name for mutant in MUTANTS}
    if unknown := [name for name in names if name not in known]:
        print(f"no such fault: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        return 2
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    bad = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, Workshop(Path(folder)) as workshop:
        tests = tuple(dict.fromkeys(test for mutant in chosen for test in mutant.tests))
        control = workshop.run(tests, seconds=4 * _SECONDS)
        if not control.passed:
            print(f"the tests fail without any fault\n{control.output[-4000:]}")
            return 1
        for mutant in chosen:
            began = time.monotonic()
            verdict = _verdict(workshop, mutant)
            bad += verdict != "caught"
            print(f"{mutant.name:44} {time.monotonic() - began:6.1f} s  {verdict}", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} caught")
    return 1 if bad or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
