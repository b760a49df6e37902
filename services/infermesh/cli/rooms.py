"""`infermesh gateway|registry|scheduler|worker ARGS…`: runs a service in this process, with the service's own flags."""

from importlib import import_module

import typer

from infermesh.mesh.forks import disable_grpc_handlers


def _run(room: str, arguments: list[str]) -> None:
    disable_grpc_handlers()
    from infermesh.mesh.process import run  # brings gRPC

    main = import_module(f"infermesh.{room}.main").main
    raise typer.Exit(run(main, arguments))


def gateway(context: typer.Context) -> None:
    """Run a gateway: the front door of a mesh."""
    _run("gateway", context.args)


def registry(context: typer.Context) -> None:
    """Run a registry: everything of a mesh that must survive."""
    _run("registry", context.args)


def scheduler(context: typer.Context) -> None:
    """Run a scheduler: places versions on workers."""
    _run("scheduler", context.args)


def worker(context: typer.Context) -> None:
    """Run a worker: loads versions on a device and runs them."""
    _run("worker", context.args)
