"""Fixtures of this folder."""

import pytest

from tests.unit.testing.stubs import Stubs


@pytest.fixture
def stubs(tmp_path):
    """A package of stub rooms in a folder of its own."""
    return Stubs(tmp_path)
