"""All planted faults."""

from typing import Final

from tests.mutants.mutant import Mutant
from tests.mutants.table_control import CONTROL
from tests.mutants.table_door import DOOR
from tests.mutants.table_gateway import GATEWAY
from tests.mutants.table_worker import WORKER

MUTANTS: Final[tuple[Mutant, ...]] = (*GATEWAY, *DOOR, *WORKER, *CONTROL)
