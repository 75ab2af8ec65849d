"""Draws rows as one picture: on the left what the model sees, on the right its questions and answers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from nanoocr.data.synth.fonts import default_folders

WIDTH, BAND = 1280, 340  # pixels; each row is one band
PICTURES = 520  # this much of the width is for pictures
MARGIN = 12
FONT_SIZE, LINE = 14, 19
CHARS = (WIDTH - PICTURES - 2 * MARGIN) // 9  # characters that fit into one line of text
SHOWN = 4  # at most this many pictures of a row are drawn; the heading gives their number


class Entry(NamedTuple):
    """One row of the sheet."""

    heading: str
    pictures: Sequence[Image.Image]
    turns: Sequence[tuple[str, str]]  # question and answer


def draw_sheet(entries: Sequence[Entry]) -> Image.Image:
    """Draw the sheet with a band for each entry. Text that does not fit its band ends in dots."""
    sheet = Image.new("RGB", (WIDTH, BAND * max(1, len(entries))), "white")
    font = _font()
    for i, entry in enumerate(entries):
        top = i * BAND
        _draw_pictures(sheet, entry.pictures[:SHOWN], top)
        _draw_text(ImageDraw.Draw(sheet), entry, top, font)
        ImageDraw.Draw(sheet).line([(0, top + BAND - 1), (WIDTH, top + BAND - 1)], fill="silver")
    return sheet


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which knows most alphabets, if it is there. Pillow's own font has no accents."""
    for folder in default_folders():
        for path in Path(folder).rglob("DejaVuSans.ttf"):
            return ImageFont.truetype(str(path), FONT_SIZE)
    return ImageFont.load_default(FONT_SIZE)


def _draw_pictures(sheet: Image.Image, pictures: Sequence[Image.Image], top: int) -> None:
    """Draw pictures side by side, enlarged at most three times."""
    if not pictures:
        return
    room = (PICTURES // len(pictures) - MARGIN, BAND - 2 * MARGIN)
    for i, picture in enumerate(pictures):
        scale = min(room[0] / picture.width, room[1] / picture.height, 3.0)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        left = MARGIN + i * (PICTURES // len(pictures))
        sheet.paste(picture.convert("RGB").resize(size), (left, top + MARGIN))
        frame = (left - 1, top + MARGIN - 1, left + size[0], top + MARGIN + size[1])
        ImageDraw.Draw(sheet).rectangle(frame, outline="silver")


def _draw_text(
    draw: ImageDraw.ImageDraw, entry: Entry, top: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    lines = [("grey", line) for line in textwrap.wrap(entry.heading, CHARS)]
    for question, answer in entry.turns:
        lines += [("navy", line) for line in _wrapped(question)]
        lines += [("black", line) for line in _wrapped(answer)]
    room = (BAND - 2 * MARGIN) // LINE
    if len(lines) > room:
        lines = [*lines[: room - 1], ("grey", "...")]
    for i, (colour, line) in enumerate(lines):
        draw.text((PICTURES + MARGIN, top + MARGIN + i * LINE), line, fill=colour, font=font)


def _wrapped(text: str) -> list[str]:
    """Wrap a text for the sheet; its own line breaks stay."""
    return [piece for line in text.splitlines() or [""] for piece in textwrap.wrap(line, CHARS) or [""]]
