"""`python -m infermesh.cli`: the command line."""

from infermesh.cli.main import main

main()
