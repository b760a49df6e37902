"""How a room's main ends the process."""

import pytest

from infermesh.errors import ConfigError
from infermesh.mesh.process import run


async def _refuses(argv):
    raise ConfigError("listen: can't bind")


async def _refuses_in_groups(argv):
    raise BaseExceptionGroup("outer", [ExceptionGroup("inner", [ConfigError("listen: can't bind")])])


async def _refuses_at_length(argv):
    raise ConfigError("listen:\n\tcan't bind\n")


async def _fails_otherwise(argv):
    raise ExceptionGroup("two", [ConfigError("listen: can't bind"), ValueError("a fault")])


async def _ends(argv):
    assert argv == ["--x"]


@pytest.mark.parametrize("main", [_refuses, _refuses_in_groups, _refuses_at_length])
def test_a_bad_setting_is_one_line_and_status_2_also_out_of_task_groups(main, capsys):
    assert run(main, []) == 2
    assert capsys.readouterr().err == "infermesh: listen: can't bind\n"


def test_a_fault_beside_it_is_not_hidden():
    with pytest.raises(ExceptionGroup):
        run(_fails_otherwise, [])


def test_a_clean_end_is_status_0():
    assert run(_ends, ["--x"]) == 0
