"""`infermesh push`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infermesh.cli.options import DEFAULT_HOME, Address, Format, Home, Output, connected
from infermesh.cli.output import bytes_text, last, show_one, signature_text
from infermesh.cli.tensor_args import parse_specs, read_sample

if TYPE_CHECKING:
    from infermesh.v1 import model_pb2

Samples = Annotated[
    list[Path] | None,
    typer.Option(help="Golden sample: .npz with the inputs and expected outputs by tensor name.", exists=True),
]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", help="Input tensor as name:FP32[-1,4], if the file does not say.")
]
Outputs = Annotated[list[str] | None, typer.Option("--output-tensor", help="Output tensor, likewise.")]
MaxBatchSize = Annotated[int | None, typer.Option(help="Most rows of one execution; 0: no batch dimension.", min=0)]
Decoupled = Annotated[bool, typer.Option("--decoupled", help="A request may have any number of responses: a stream.")]


def push(
    files: Annotated[list[Path], typer.Argument(help="The model's file, its files, or its folder.", exists=True)],
    name: Annotated[str, typer.Option("--name", "-n", help="Model id; default: the name of the file.")] = "",
    backend: Annotated[str, typer.Option(help="torch, onnx or python; default: by the file's suffix.")] = "",
    sample: Samples = None,
    inputs: Inputs = None,
    outputs: Outputs = None,
    max_batch_size: MaxBatchSize = None,
    decoupled: Decoupled = False,
    device: Annotated[str, typer.Option(help="Device it needs: any, cpu, cuda, mps or xpu.")] = "",
    label: Annotated[list[str] | None, typer.Option(help="Label as key=value.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Option of the backend as key=value.")] = None,
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """Store model files as the next version of a model. What the registry already has is not sent again."""
    signature = parse_specs(inputs or [], outputs or [])
    known = signature or _described(files)
    with connected(address, home) as client, _progress(output) as progress:
        version = client.push(
            name or _default_name(files[0]),
            files[0] if len(files) == 1 else {path.name: path for path in files},
            backend=backend,
            signature=signature,
            samples=[read_sample(path, known) for path in sample or []],
            max_batch_size=max_batch_size,
            decoupled=decoupled,
            device=device,
            labels=pairs("label", label),
            options=pairs("option", option),
            progress=progress,
        )
    show_one(version, _rows(version), output)


def _rows(version: "model_pb2.ModelVersion") -> dict[str, str]:
    model = version.name.split("/")[1]
    return {
        "model": model,
        "version": last(version.name),
        "backend": version.backend,
        "inputs": signature_text(version.signature.inputs),
        "outputs": signature_text(version.signature.outputs),
        "batch": str(version.max_batch_size or "none"),
        "samples": str(len(version.samples)),
        "size": bytes_text(sum(file.size_bytes for file in version.files)),
        "next": f"infermesh deploy {model} --version {last(version.name)}",
    }


def _described(files: list[Path]) -> "model_pb2.Signature | None":
    """Returns what the only file says of its tensors, to tell a sample's inputs from its outputs."""
    from infermesh.client.formats import describe

    return describe(files[0]).signature if len(files) == 1 and files[0].is_file() else None


def _default_name(file: Path) -> str:
    return (file.resolve().name if file.is_dir() else file.stem).lower()


def pairs(kind: str, items: list[str] | None) -> dict[str, str]:
    """Returns `key=value` arguments as a dict. Raises a usage error for one without `=`."""
    for item in items or []:
        if "=" not in item:
            raise typer.BadParameter(f"{kind}: expected key=value, got {item!r}")
    return dict(item.split("=", 1) for item in items or [])


@contextmanager
def _progress(output: Format) -> Iterator[Callable[[int, int], None] | None]:
    if output is Format.json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns: Any = ("sending", BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sending", total=None)
        yield lambda sent, total: bar.update(task, completed=sent, total=total)
