"""Memory that has been freed is there for the next call."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from infermesh.mesh import heap

if {keep}:
    heap.keep_freed()
for round in range(60):
    if round == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [bytes(600_000) + b"1" for _ in range(8)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEPT = """
import psutil
from infermesh.mesh import heap

heap.keep_freed()
before = psutil.Process().memory_info().rss
tensors = [bytes(600_000) + b"1" for _ in range(50)]
del tensors
kept = psutil.Process().memory_info().rss
heap.give_back_freed()
print(kept - before, psutil.Process().memory_info().rss - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def told(program: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_the_next_tensors_get_the_pages_of_the_last_ones():
    (kept,), (adapted,) = told(FAULTS.format(keep=True)), told(FAULTS.format(keep=False))
    assert kept < 500, "50 rounds of 8 tensors of 147 pages are 58,800"
    assert adapted > 20 * kept, "else glibc no longer needs to be told"


def test_what_is_kept_can_be_given_back():
    kept, left = told(KEPT)
    assert kept > 25_000_000
    assert left < 5_000_000
