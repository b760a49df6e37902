"""`infermesh infer`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infermesh.cli.options import DEFAULT_HOME, Address, Format, Home, Output, Timeout, connected
from infermesh.cli.output import print_json
from infermesh.cli.tensor_args import random_inputs, read_inputs

if TYPE_CHECKING:
    from infermesh.client import Client, InferResult


def infer(
    deployment: Annotated[str, typer.Argument(help="Deployment id.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="name=JSON or name=@file.npy; or @file.npz, @file.json; '-' reads JSON from standard input."
        ),
    ] = None,
    random: Annotated[bool, typer.Option("--random", help="Send random inputs that fit the signature.")] = False,
    batch: Annotated[int, typer.Option(help="Rows of random inputs.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Seed of random inputs.")] = 0,
    version: Annotated[str, typer.Option("--version", "-v", help="Version number or alias.")] = "",
    tensor: Annotated[list[str] | None, typer.Option(help="Output wanted; may be repeated; default: all.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the outputs to this .npz file.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print results as they come.")] = False,
    timeout: Timeout = 30.0,
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """Call a deployment's model."""
    if bool(inputs) == random:
        raise typer.BadParameter("inputs: give either inputs or --random")
    with connected(address, home, timeout) as client:
        specs = client.metadata(deployment, version).inputs
        arrays = random_inputs(specs, batch, seed) if random else read_inputs(_texts(inputs or []), specs)
        call = client.infer_stream if stream else _once(client)
        for result in call(deployment, arrays, version=version, outputs=tensor, timeout=timeout):
            _show(result, output)
            if save is not None:
                _save(save, result)


def _once(client: "Client") -> Any:
    def call(*args: Any, **kwargs: Any) -> "list[InferResult]":
        return [client.infer(*args, **kwargs)]

    return call


def _texts(inputs: Sequence[str]) -> list[str]:
    return [sys.stdin.read() if text == "-" else text for text in inputs]


def _show(result: "InferResult", output: Format) -> None:
    if output is Format.json:
        outputs = {name: _plain(array) for name, array in result.items()}
        print_json({"deployment": result.model, "version": result.version, "outputs": outputs})
        return
    import numpy as np

    typer.echo(f"{result.model} version {result.version}")
    for name, array in result.items():
        typer.echo(f"{name} {list(array.shape)}\n{np.array2string(array, precision=4, threshold=100)}")


def _plain(array: Any) -> Any:
    if array.dtype.kind != "O":
        return array.tolist()
    decoded = [item.decode(errors="replace") for item in array.flat]
    import numpy as np

    return np.array(decoded, dtype=object).reshape(array.shape).tolist()


def _save(path: Path, result: "InferResult") -> None:
    import numpy as np

    arrays = {name: array.astype(bytes) if array.dtype.kind == "O" else array for name, array in result.items()}
    np.savez(path, allow_pickle=False, **arrays)
