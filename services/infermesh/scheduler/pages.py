"""Pages of a list that is sorted by name."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from infermesh.errors import InvalidInput

T = TypeVar("T")
_DEFAULT: Final = 100
_MOST: Final = 1_000
_MARK: Final = b"workers\0"  # so that a token of another list is refused


def page(items: Sequence[T], name: Callable[[T], str], size: int, token: str) -> tuple[Sequence[T], str]:
    """Returns the page after `token` and the next page's token, empty at the end.

    `items` are sorted by `name`. `size` 0 means 100, more than 1,000 means 1,000. What comes or goes between two pages
    neither repeats nor hides another item. Raises InvalidInput for a negative size or a token that is none of ours.
    """
    if size < 0:
        raise InvalidInput(f"page_size: expected 0 or more, got {size}", violations=[("page_size", "negative")])
    last = _read(token)
    rest = [item for item in items if name(item) > last] if last else items
    found = rest[: min(size or _DEFAULT, _MOST)]
    return found, _write(name(found[-1])) if len(found) < len(rest) else ""


def _write(last: str) -> str:
    return base64.urlsafe_b64encode(_MARK + last.encode()).decode()


def _read(token: str) -> str:
    if not token:
        return ""
    try:
        content = base64.b64decode(token, altchars=b"-_", validate=True)
        if content.startswith(_MARK):
            return content.removeprefix(_MARK).decode()
    except (binascii.Error, ValueError):
        pass
    raise InvalidInput("page_token: not a token of this list", violations=[("page_token", "malformed")])
