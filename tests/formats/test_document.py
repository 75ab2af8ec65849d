"""Quads, order and joining of text."""

import subprocess
import sys

import pytest

from nanoocr.document import (
    Box,
    Line,
    TextPage,
    Word,
    angle,
    blocks,
    height,
    hull,
    join_lines,
    length,
    part,
    words_with_blanks,
)

A, B, C, D = Box(10, 20, 110, 40).quad()


@pytest.mark.parametrize(
    ("quad", "degrees"), [((A, B, C, D), 0), ((B, C, D, A), 90), ((C, D, A, B), 180), ((D, A, B, C), -90)]
)
def test_angle_is_clockwise_from_the_texts_own_corner(quad, degrees):
    assert angle(quad) == pytest.approx(degrees)
    assert (length(quad), height(quad)) == ((100, 20) if degrees in (0, 180) else (20, 100))


def test_a_quad_without_extent_has_angle_zero():
    assert angle(((5, 5),) * 4) == 0


def test_hull_and_part():
    assert hull([(3, 9), (1, 2), (8, 4)]) == (1, 2, 8, 9)
    assert part((A, B, C, D), 0.25, 0.5) == Box(35, 20, 60, 40).quad()


def test_lines_are_joined_with_one_blank_line_between_blocks():
    quad = (A, B, C, D)
    lines = [Line(text, quad, block=block) for text, block in (("a", 0), ("b", 0), ("c", 3), ("d", 0))]
    assert join_lines(lines) == "a\nb\n\nc\n\nd"
    # A block that comes back later is another piece: the reading order is what counts.
    assert [len(block) for block in blocks(lines)] == [2, 1, 1]
    assert TextPage("x", 1, 9, 9, tuple(lines)).text == "a\nb\n\nc\n\nd"


def test_blanks_stand_where_the_line_has_them():
    words = tuple(Word(text, (A, B, C, D)) for text in ("漢字", "かな", "ok", "?", "lost"))
    pairs = words_with_blanks(Line("漢字かな ok?", (A, B, C, D), words=words))
    assert [blank for _, blank in pairs] == [False, True, False, True, True]


def test_the_module_is_cheap_to_import():
    heavy = {"torch", "PIL", "lxml", "pikepdf"}
    code = f"import sys, nanoocr.document, nanoocr.formats; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
