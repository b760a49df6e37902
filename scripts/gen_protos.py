"""Generates the protobuf stubs under `services/infermesh` from `protos/`.

Usage: gen_protos.py [OUT]      OUT defaults to `services`; a check passes a temporary folder and compares.
The generator is pinned in the `proto` dependency group, so that the stubs load on protobuf 6.33.5 and later.
"""

import shutil
import sys
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import google.longrunning
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
NOTE = '"""Generated from `protos/{package}` by `make proto`. DO NOT EDIT."""\n'


def generate(out: Path) -> None:
    """Writes the stubs of every proto file below `out`. Raises SystemExit if protoc refuses a file."""
    protos = sorted((ROOT / "protos").rglob("*.proto"))
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        includes = [ROOT / "protos", Path(str(files("grpc_tools"))) / "_proto", *google_protos(Path(scratch))]
        outputs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
        code = protoc.main(["protoc", *(f"-I{path}" for path in includes), *outputs, *map(str, protos)])
    if code:
        raise SystemExit(code)
    for package in {proto.parent.relative_to(ROOT / "protos") for proto in protos}:
        _mark(out, package)


def google_protos(scratch: Path) -> list[Path]:
    """Returns the folders that hold google/rpc and google/longrunning.

    googleapis-common-protos ships operations.proto under another file name than the one that its Python module
    registers, so a copy with the registered name goes first.
    """
    site = Path(next(iter(google.longrunning.__path__))).parent.parent
    copy = scratch / "google" / "longrunning" / "operations.proto"
    copy.parent.mkdir(parents=True)
    shutil.copyfile(site / "google" / "longrunning" / "operations_proto.proto", copy)
    return [scratch, site]


def _mark(out: Path, package: Path) -> None:
    for folder in [package, *package.parents]:
        if folder not in (Path("."), Path("infermesh")):
            (out / folder / "__init__.py").write_text(NOTE.format(package=folder))
    for stub in (out / package).glob("*_pb2_grpc.py"):
        if "class " not in stub.read_text():  # a file without services
            stub.unlink()


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "services")
