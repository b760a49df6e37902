"""Pages of lists: sizes and opaque tokens that are bound to the list and filter they were made for."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from infermesh.registry.rules.fields import bad

T = TypeVar("T")

DEFAULT_SIZE: Final = 100
MAX_SIZE: Final = 1000


def page_size(wanted: int) -> int:
    """Returns how many items a page holds: 0 means 100, above 1,000 means 1,000. Raises InvalidInput if negative."""
    if wanted < 0:
        raise bad("page_size", "0 or above", wanted)
    return min(wanted, MAX_SIZE) or DEFAULT_SIZE


def encode(scope: Sequence[str], cursor: str) -> str:
    """Returns the token that goes on after `cursor` (the key of the last item) in the list that `scope` describes."""
    return base64.urlsafe_b64encode(json.dumps([*scope, cursor]).encode()).decode()


def decode(scope: Sequence[str], token: str) -> str:
    """Returns the cursor in `token`; empty for the first page.

    Raises InvalidInput if the token is not ours, or was made for another list or filter than `scope` describes.
    """
    if not token:
        return ""
    try:
        parts = json.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:  # ValueError: neither JSON nor ASCII nor UTF-8
        raise bad("page_token", "a token from an earlier answer", token) from error
    if not isinstance(parts, list) or parts[:-1] != list(scope):
        raise bad("page_token", "a token of the same list with the same filter", token)
    cursor = parts[-1]
    if not isinstance(cursor, str) or not cursor.isascii() or not cursor.isprintable():
        raise bad("page_token", "a token from an earlier answer", token)  # forged: ids are plain
    return cursor


def cut(scope: Sequence[str], found: Sequence[T], size: int, key: Callable[[T], str]) -> tuple[Sequence[T], str]:
    """Returns the items of a page and the token of the next one, of up to `size + 1` items that were found.

    The one too many tells that there is a next page; `key` gives an item's cursor.
    """
    if len(found) <= size:
        return found, ""
    return found[:size], encode(scope, key(found[size - 1]))
