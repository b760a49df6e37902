"""Generates the protobuf stubs under `services/infermesh` from `protos/`, or their image for buf.

Usage: gen_protos.py [--out FOLDER | --image FILE] [--protos FOLDER]
The generator is pinned in the `proto` dependency group, so that the stubs load on protobuf 6.33.5 and later.
"""

import argparse
import shutil
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import google.longrunning
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
NOTE = '"""Generated from `protos/{package}` by `make proto`. DO NOT EDIT."""\n'


def generate(out: Path) -> None:
    """Writes the stubs of every proto file below `out`. Raises SystemExit if protoc refuses a file."""
    out.mkdir(parents=True, exist_ok=True)
    protos = _compile(ROOT / "protos", *(f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")))
    for package in {proto.parent.relative_to(ROOT / "protos") for proto in protos}:
        _mark(out, package)


def image(out: Path, folder: Path) -> None:
    """Writes the descriptors of every proto file in `folder`, with their comments, for buf to lint and compare."""
    _compile(folder, "--include_imports", "--include_source_info", f"--descriptor_set_out={out}")


def _compile(folder: Path, *outputs: str) -> list[Path]:
    protos = sorted(folder.rglob("*.proto"))
    with TemporaryDirectory() as scratch:
        includes = [folder, Path(str(files("grpc_tools"))) / "_proto", *google_protos(Path(scratch))]
        code = protoc.main(["protoc", *(f"-I{path}" for path in includes), *outputs, *map(str, protos)])
    if code:
        raise SystemExit(code)
    return protos


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


def main() -> None:
    """Reads the arguments and does what they ask for."""
    parser = argparse.ArgumentParser(description="Generates the protobuf stubs, or their image for buf.")
    parser.add_argument("--out", type=Path, default=ROOT / "services")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--protos", type=Path, default=ROOT / "protos")
    arguments = parser.parse_args()
    if arguments.image:
        image(arguments.image, arguments.protos)
    else:
        generate(arguments.out)


if __name__ == "__main__":
    main()
