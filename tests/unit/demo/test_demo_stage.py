"""What the demo shows, and that it cannot claim what it did not keep."""

import io

import numpy as np
import pytest
from rich.console import Console

from infermesh.demo.picture import gallery
from infermesh.demo.stage import Stage


@pytest.fixture
def console():
    """A console that is no terminal and keeps what it is told."""
    return Console(file=io.StringIO(), width=200)


def test_one_broken_claim_breaks_the_demo(console):
    stage = Stage(console)
    stage.claim("it flies", "2 m", True)
    assert stage.kept
    stage.claim("it lands", "0 %", False)
    stage.claim("it shines", "yes", True)
    assert not stage.kept
    stage.summary()
    shown = console.file.getvalue()
    assert shown.count("✗ it lands") == 1
    assert shown.count("it lands") == 2
    assert shown.count("✓") == 4


def test_steps_are_numbered_and_progress_is_silent_without_a_terminal(console):
    stage = Stage(console)
    stage.heading("first")
    assert list(stage.watched([1, 2], "working", 2)) == [1, 2]
    stage.heading("second")
    lines = [line for line in console.file.getvalue().splitlines() if line]
    assert lines == ["1 first", "2 second"]


def test_a_picture_without_colours_shows_the_ink(console):
    image = np.zeros((8, 8), np.float32)
    image[0, 0] = image[1, 1] = image[2, 2] = image[3, 2] = 1
    console.print(gallery(image.reshape(1, 64), [3], [3], colour=False))
    lines = console.file.getvalue().splitlines()
    assert lines[0].rstrip() == "▀▄"
    assert lines[1].rstrip() == "  █"
    assert "3 ✓" in lines[-1]


def test_a_wrong_answer_is_shown_with_the_right_one(console):
    console.print(gallery(np.zeros((2, 64), np.float32), [1, 4], [7, 4], colour=False))
    assert "1 not 7" in console.file.getvalue()
    assert "4 ✓" in console.file.getvalue()


def test_colours_are_two_pixels_a_character():
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="truecolor")
    image = np.zeros(64, np.float32)
    image[0] = 1
    console.print(gallery(image[None], [1], [1], colour=True))
    assert "38;2;245;245;245" in console.file.getvalue()
    assert console.file.getvalue().count("▀") == 32
