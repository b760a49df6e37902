"""Runs the scheduler: `python -m infermesh.scheduler`."""

import sys

from infermesh.scheduler.main import cli

sys.exit(cli())
