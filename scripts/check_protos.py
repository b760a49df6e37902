"""Fails when the committed stubs are not those that `make proto` would write."""

import filecmp
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from gen_protos import ROOT, generate


def stubs(folder: Path) -> dict[str, Path]:
    """Returns the generated files below a folder by their relative paths."""
    return {
        str(path.relative_to(folder)): path for path in folder.rglob("*_pb2*.py*") if path.suffix in (".py", ".pyi")
    }


def stale() -> list[str]:
    """Returns the stubs that are missing, changed, or no longer made."""
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "infermesh"
        generate(out.parent)
        fresh, committed = stubs(out), stubs(ROOT / "services" / "infermesh")
        names = sorted(fresh.keys() | committed.keys())
        return [
            name
            for name in names
            if name not in fresh
            or name not in committed
            or not filecmp.cmp(fresh[name], committed[name], shallow=False)
        ]


if __name__ == "__main__":
    wrong = stale()
    if wrong:
        sys.exit("stubs out of date, run `make proto` and commit:\n  " + "\n  ".join(wrong))
