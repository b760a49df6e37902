"""`python -m infermesh.registry` starts a registry."""

import sys

from infermesh.mesh.forks import disable_grpc_handlers

if __name__ == "__main__":
    disable_grpc_handlers()
    from infermesh.registry.main import cli

    sys.exit(cli())
