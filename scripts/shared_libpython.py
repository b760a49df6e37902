"""Tells by its exit code whether the interpreter's shared library is on the machine. Runs before anything is installed.

The gateway's Envoy is not a Python program: it loads Python as a library. `infermesh doctor` looks again, afterwards.
"""

import ctypes.util
import sys
import sysconfig
from pathlib import Path


def found() -> bool:
    """Looks where the interpreter was built to put it, then where the system's linker looks."""
    names = {sysconfig.get_config_var(key) for key in ("INSTSONAME", "LDLIBRARY", "PY3LIBRARY")} - {None, ""}
    folders = [sysconfig.get_config_var(key) for key in ("LIBDIR", "LIBPL", "PYTHONFRAMEWORKPREFIX")]
    shared = [name for name in names if not str(name).endswith(".a")]
    if any((Path(folder) / name).exists() for folder in folders if folder for name in shared):
        return True
    return ctypes.util.find_library("python{}.{}".format(*sys.version_info[:2])) is not None


sys.exit(0 if found() else 1)
