"""Which of two processes runs which tests.

One makes the loads, since two at a time are more than a small cluster bears; what needs the cluster alone comes last
there. The other does the rest on the cluster; then whoever has nothing to do takes what needs no release.
"""

from pathlib import PurePath

from xdist.scheduler import LoadScopeScheduling

FOLDER = "tests/cluster/"
LOADED = [f"test_cluster_{name}" for name in ("kills", "rolling", "autoscaling", "api_server", "nodes")]
"""Modules that make loads, in their order."""


def rank(path: PurePath) -> int:
    """Returns the place of a file among those of all tests: it sorts them."""
    if FOLDER not in path.as_posix():
        return len(LOADED) + 1
    return LOADED.index(path.stem) if path.stem in LOADED else len(LOADED)


class Processes(LoadScopeScheduling):
    """Hands out the loaded modules as one, the other modules of this folder as one, and all other tests one by one."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePath(nodeid.partition("::")[0])
        if FOLDER not in path.as_posix():
            return nodeid
        return "loaded" if path.stem in LOADED else "unloaded"
