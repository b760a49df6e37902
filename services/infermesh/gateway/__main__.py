"""`python -m infermesh.gateway` starts a gateway."""

import sys

from infermesh.mesh.forks import disable_grpc_handlers

if __name__ == "__main__":
    disable_grpc_handlers()
    from infermesh.gateway.main import cli

    sys.exit(cli())
