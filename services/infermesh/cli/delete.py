"""`infermesh delete`."""

from typing import Annotated

import typer

from infermesh.cli.options import DEFAULT_HOME, Address, Format, Home, Output, connected
from infermesh.cli.output import print_json


def delete(
    model: Annotated[str, typer.Argument(help="Model id.")],
    version: Annotated[
        str, typer.Argument(help="Version number; without it the model goes with all its versions.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """Delete a model, or one of its versions. Refused while a deployment or an alias uses it."""
    what = f"version {version} of {model}" if version else f"model {model} with all its versions"
    if not yes:
        typer.confirm(f"Delete {what}?", abort=True, err=True)
    with connected(address, home) as client:
        if version:
            client.delete_version(model, version)
        else:
            client.delete_model(model)
    if output is Format.json:
        print_json({"model": model, "version": version or None, "deleted": True})
    else:
        typer.echo(f"deleted {what}")
