"""`python -m infermesh.worker` starts a worker."""

import sys

from infermesh.worker.main import cli

if __name__ == "__main__":
    sys.exit(cli())
