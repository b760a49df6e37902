"""`python -m infermesh.registry`."""

import sys

from infermesh.registry.main import cli

sys.exit(cli())
