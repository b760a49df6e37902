"""`python -m infermesh.worker` starts a worker."""

import sys

from infermesh.mesh.forks import disable_grpc_handlers

if __name__ == "__main__":
    disable_grpc_handlers()
    from infermesh.worker.main import cli

    sys.exit(cli())
