"""The process in which `migrate.in_child` migrates: the database's URL comes on standard input."""

import sys

from sqlalchemy.exc import DBAPIError

from infermesh.errors import ConfigError
from infermesh.registry.catalog import migrate
from infermesh.registry.catalog.database import open_engine


def main() -> int:
    """Migrates; returns 2, after one line on standard error, if it can't."""
    try:
        migrate.here(open_engine(sys.stdin.read()))
    except (ConfigError, DBAPIError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
