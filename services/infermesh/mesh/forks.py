"""Keeps gRPC's fork handlers out of processes that start others. For entry points, which import it before all else."""

import os


def disable_grpc_handlers() -> None:
    """Must be called before anything imports gRPC, which reads the setting then.

    A child made by fork and exec (a runner, Envoy) runs gRPC's handlers in between, where they may abort it; we never
    go on in a forked child, so nothing needs them. A setting of the operator's stands.
    """
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
