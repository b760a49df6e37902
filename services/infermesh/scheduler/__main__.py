"""`python -m infermesh.scheduler` starts a scheduler."""

import sys

from infermesh.mesh.forks import disable_grpc_handlers

if __name__ == "__main__":
    disable_grpc_handlers()
    from infermesh.scheduler.main import cli

    sys.exit(cli())
