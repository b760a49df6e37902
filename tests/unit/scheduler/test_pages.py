"""Pages of the list of workers."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.errors import InvalidInput
from infermesh.scheduler.pages import page


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode()


def pages(items: list[str], size: int) -> list[list[str]]:
    found, token = [], ""
    while True:
        part, token = page(items, str, size, token)
        found.append(list(part))
        if not token:
            return found


@given(st.sets(st.text(min_size=1, max_size=3)), st.integers(1, 5))
def test_pages_make_up_the_list(items: set[str], size: int) -> None:
    whole = sorted(items)
    parts = pages(whole, size)
    assert [item for part in parts for item in part] == whole
    assert all(len(part) == size for part in parts[:-1])
    assert not whole or all(parts), "an empty page would say that there is more where there is none"


@pytest.mark.parametrize(("size", "expected"), [(0, 100), (1, 1), (1_000, 1_000), (5_000, 1_000)])
def test_sizes(size: int, expected: int) -> None:
    found, token = page([f"{n:05}" for n in range(1_200)], str, size, "")
    assert len(found) == expected
    assert token


def test_what_comes_or_goes_between_two_pages_hides_nothing() -> None:
    _, token = page(["b", "c", "d"], str, 2, "")
    assert page(["a", "d", "e"], str, 2, token) == (["d", "e"], "")


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InvalidInput, match="page_size"):
        page([], str, -1, "")


@pytest.mark.parametrize("token", ["?", "abc", "é", encoded(b"models\0m"), encoded(b"workers\0\xff")])
def test_a_token_of_another_list_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput, match="page_token"):
        page(["a"], str, 1, token)
