"""The `infermesh` command: the table of its subcommands. Entry point of the distribution."""

from typing import Annotated, Any, Final

import typer

from infermesh.cli.group import Commands, Entry
from infermesh.cli.options import TLS, TlsOptions

_PASS_ON: Final = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

COMMANDS: Final = {
    "up": Entry("infermesh.cli.up:up", "Keep a mesh running on this machine."),
    "demo": Entry("infermesh.cli.demo:demo", "Show the whole product on real data, in three minutes."),
    "doctor": Entry("infermesh.cli.doctor:doctor", "Say what is missing on this machine, and how to install it."),
    "push": Entry("infermesh.cli.push:push", "Store model files as the next version of a model."),
    "models": Entry("infermesh.cli.listings:models", "List models."),
    "versions": Entry("infermesh.cli.listings:versions", "List the versions of a model."),
    "alias": Entry("infermesh.cli.alias:app", "Set, get, list and delete aliases of versions."),
    "deploy": Entry("infermesh.cli.deploy:deploy", "Create or change a deployment, and wait until it answers."),
    "undeploy": Entry("infermesh.cli.deploy:undeploy", "Delete a deployment; calls under way finish."),
    "deployments": Entry("infermesh.cli.listings:deployments", "List deployments."),
    "workers": Entry("infermesh.cli.listings:workers", "List workers and what they hold."),
    "status": Entry("infermesh.cli.status:status", "Show workers, versions, traffic and load; --watch keeps looking."),
    "infer": Entry("infermesh.cli.infer:infer", "Call a deployment's model."),
    "stats": Entry("infermesh.cli.stats:stats", "Show counts and times of the calls."),
    "simulate": Entry("infermesh.cli.simulate:simulate", "Run requests through a mesh in virtual time."),
    "bench": Entry("infermesh.cli.bench:bench", "Load a deployment; show latencies, failures and goodput."),
    "logs": Entry("infermesh.cli.logs:logs", "Show what the services of the local mesh logged."),
    "delete": Entry("infermesh.cli.delete:delete", "Delete a model, or one of its versions."),
    "gateway": Entry("infermesh.cli.rooms:gateway", "Run a gateway.", _PASS_ON),
    "registry": Entry("infermesh.cli.rooms:registry", "Run a registry.", _PASS_ON),
    "scheduler": Entry("infermesh.cli.rooms:scheduler", "Run a scheduler.", _PASS_ON),
    "worker": Entry("infermesh.cli.rooms:worker", "Run a worker.", _PASS_ON),
    "config-schema": Entry("infermesh.cli.schema:config_schema", "Print the JSON schema of a service's configuration."),
    "version": Entry("infermesh.cli.version:version", "Print the version."),
}


class Infermesh(Commands):
    """The group with the table above."""

    entries = COMMANDS


def _tls(name: str, text: str) -> Any:
    return typer.Option(f"--tls-{name}", envvar=f"INFERMESH_TLS_{name.replace('-', '_').upper()}", help=text)


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    tls: Annotated[bool, typer.Option("--tls", envvar="INFERMESH_TLS", help="Speak TLS, as with https://…")] = False,
    ca: Annotated[str, _tls("ca", "PEM file: whom the gateway's certificate may be from.")] = "",
    cert: Annotated[str, _tls("cert", "PEM file: the certificate to show.")] = "",
    key: Annotated[str, _tls("key", "PEM file: its key.")] = "",
    server_name: Annotated[str, _tls("server-name", "Name in the gateway's certificate; default: the address's.")] = "",
) -> None:
    """Serve models over a mesh of gateway, registry, scheduler and workers."""
    TLS.set(TlsOptions(tls, ca, cert, key, server_name))
    if version:
        from infermesh.cli.version import version as show

        show()
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def build() -> typer.Typer:
    """Returns the application. Importing it imports none of the commands."""
    app = typer.Typer(name="infermesh", cls=Infermesh, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(_root)
    return app


def main() -> None:
    """Runs the command line; exits with 0, 1 for a failure, 2 for bad usage, 130 for an interrupt."""
    build()(prog_name="infermesh")
