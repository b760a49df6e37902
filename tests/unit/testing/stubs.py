"""Stub rooms: processes that behave like services towards a local mesh, start quickly and do nothing."""

import json
from itertools import pairwise

from infermesh.testing import LocalMesh, MeshOptions

# A room that notes its start and end in a common file, and listens on what it is given or on a number of its own.
STUB = """
import json, os, pathlib, signal, sys, time
room = pathlib.Path(__file__).stem
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
name = pathlib.Path(flags["--ready-file"]).stem
notes = pathlib.Path(__file__).parent / "notes"
def note(text):
    with notes.open("a") as out:
        out.write(text + "\\n")
def end(*_):
    note("end " + name)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
if os.environ.get("BROKEN") == name:
    sys.exit("broken by the test")
note("start " + name + " " + json.dumps(sys.argv[1:]))
listen = flags["--listen"]
address = listen if not listen.endswith(":0") else "127.0.0.1:" + str(os.getpid())
part = pathlib.Path(flags["--ready-file"] + ".part")
addresses = {"grpc": address}
if "--grpc-listen" in flags:
    addresses["grpc_port"] = address + "1"
part.write_text(json.dumps({"pid": os.getpid(), "addresses": addresses}))
part.rename(flags["--ready-file"])
while True:
    time.sleep(1)
"""


class Stubs:
    """A folder with a package `rooms` of stubs, and what they noted."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "rooms").mkdir()
        for room in ("registry", "scheduler", "worker", "gateway"):
            (folder / "rooms" / f"{room}.py").write_text(STUB)

    def mesh(self, broken="", **options):
        environment = {"PYTHONPATH": str(self.folder), "BROKEN": broken}
        return LocalMesh(
            self.folder / "home", MeshOptions(package="rooms", environment=environment, stop_timeout=20, **options)
        )

    def notes(self, kind):
        lines = (self.folder / "rooms" / "notes").read_text().splitlines()
        return [line.split()[1] for line in lines if line.startswith(kind)]

    def arguments(self, name):
        for line in (self.folder / "rooms" / "notes").read_text().splitlines():
            if line.startswith(f"start {name} "):
                last = json.loads(line.removeprefix(f"start {name} "))
        return dict(pairwise(last))
