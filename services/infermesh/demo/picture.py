"""Pictures of digits in a terminal: a half block shows two pixels, one in its own colour, one in that behind it."""

from collections.abc import Sequence
from typing import Final

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.text import Text

from infermesh.demo.digits import SIDE, Images

_BLOCKS: Final = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_DARK: Final = 0.4  # above this a pixel counts as ink where there are no colours


def gallery(images: Images, answers: Sequence[int], labels: Sequence[int], *, colour: bool) -> RenderableType:
    """Returns images side by side, each over its answer, and over the right answer where that is another one."""
    return Columns(
        [
            Group(_picture(image, colour), _caption(answer, label))
            for image, answer, label in zip(images, answers, labels, strict=True)
        ],
        padding=(0, 2),
    )


def _picture(image: Images, colour: bool) -> Text:
    pixels = image.reshape(SIDE, SIDE)
    text = Text()
    for above, below in zip(pixels[::2], pixels[1::2], strict=True):
        for upper, lower in zip(above.tolist(), below.tolist(), strict=True):
            if colour:
                text.append("▀", style=f"{_grey(upper)} on {_grey(lower)}")
            else:
                text.append(_BLOCKS[upper > _DARK, lower > _DARK])
        text.append("\n")
    return text


def _grey(ink: float) -> str:
    level = round(20 + 225 * ink)
    return f"rgb({level},{level},{level})"


def _caption(answer: int, label: int) -> Text:
    if answer == label:
        return Text(f"{answer} ✓".center(SIDE), style="bold green")
    return Text(f"{answer} not {label}".center(SIDE), style="bold red")
