"""`python -m infermesh.gateway`."""

from infermesh.gateway.main import cli

raise SystemExit(cli())
