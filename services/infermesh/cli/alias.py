"""`infermesh alias set|get|list|delete`."""

from typing import Annotated

import typer

from infermesh.cli.options import DEFAULT_HOME, Address, Format, Home, Output, connected
from infermesh.cli.output import Column, last, show, when

app = typer.Typer(help="Set, get, list and delete aliases of versions.", no_args_is_help=True, add_completion=False)

Model = Annotated[str, typer.Argument(help="Model id.")]
Alias = Annotated[str, typer.Argument(help="Alias id, e.g. prod.")]

ALIASES = (
    Column("ALIAS", lambda a: last(a.name)),
    Column("VERSION", lambda a: last(a.version), right=True),
    Column("MOVED", lambda a: when(a.update_time)),
)


@app.command("set")
def set_alias(
    model: Model,
    alias: Alias,
    version: Annotated[str, typer.Argument(help="Version number that it shall point at.")],
    expected: Annotated[
        str | None, typer.Option(help="Move it only if it points at this version now; 'none': only if it is new.")
    ] = None,
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """Point an alias at a version, creating it if it is missing."""
    with connected(address, home) as client:
        show([client.set_alias(model, alias, version, expected=expected)], ALIASES, output)


@app.command("get")
def get_alias(
    model: Model, alias: Alias, address: Address = "", home: Home = DEFAULT_HOME, output: Output = Format.table
) -> None:
    """Show where an alias points."""
    with connected(address, home) as client:
        show([client.get_alias(model, alias)], ALIASES, output)


@app.command("list")
def list_aliases(model: Model, address: Address = "", home: Home = DEFAULT_HOME, output: Output = Format.table) -> None:
    """List the aliases of a model."""
    with connected(address, home) as client:
        show(client.aliases(model), ALIASES, output, empty="no aliases")


@app.command("delete")
def delete_alias(
    model: Model, alias: Alias, address: Address = "", home: Home = DEFAULT_HOME, output: Output = Format.table
) -> None:
    """Delete an alias. Refused while a deployment uses it."""
    with connected(address, home) as client:
        before = client.get_alias(model, alias)
        client.delete_alias(model, alias)
        if output is Format.json:
            show([before], ALIASES, output)
        else:
            typer.echo(f"deleted alias {alias} of {model}, which pointed at version {last(before.version)}")
