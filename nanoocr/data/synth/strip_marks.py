"""Draws marks beside the text of a strip: rules, frames, dust, pen strokes, and shapes mistaken for text.

All of them are drawn into the ink, before the page is degraded.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.page import Face, Page


def mirrored(dice: Dice, letters: Face, line: str, ink: np.ndarray, baseline: int) -> np.ndarray:
    """A mirrored line, as it shines through from the back of a sheet. Nobody can read it."""
    back = Page((ink.shape[0], ink.shape[1]), (255, 255, 255))
    back.write(letters, letters.fit(line, back.width - 8 * letters.size), 4 * letters.size, baseline)
    return np.maximum(ink, back.ink[:, ::-1])


def cut_letter(dice: Dice, page: Page, letters: Face, end: float, baseline: int) -> float:
    """Specks behind the text, like a border or a word that was cut off; they are not text."""
    pen = ImageDraw.Draw(image := Image.fromarray(page.ink))
    x = end + dice.between(0.5, 1.2) * letters.size
    top = baseline - dice.between(0, 1.2) * letters.size
    wide = dice.between(0.04, 0.12) * letters.size
    pen.rectangle([x, top, x + wide, top + dice.between(0.05, 2) * letters.size], fill=255)
    page.ink = np.asarray(image)
    return end


def rules(
    dice: Dice, ink: np.ndarray, cap: float, baseline: int, left: float, right: float, *, empty: bool
) -> np.ndarray:
    """Draw underlines, rules above and frames at the sides; on empty strips, any mark that is no text."""
    ruled, specks = dice.chance(0.95 if empty else 0.3), dice.chance(0.15)
    if not ruled and not specks:
        return ink
    pen = ImageDraw.Draw(image := Image.fromarray(ink))
    if specks:
        _specks(dice, pen, cap, baseline, left, right)
    if not ruled:
        return np.asarray(image)
    thick = max(1, round(dice.between(0.03, 0.16) * cap))
    for _ in range(dice.whole(1, 3) if empty else 1):
        if empty:
            _no_text(dice, pen, cap, baseline, left, right, thick)
            continue
        choice = dice.unit()
        x0, x1 = left - dice.between(0, 3) * cap, right + dice.between(0, 3) * cap
        if choice > 0.93:
            _tick_box(dice, pen, cap, baseline, left, right, thick)
        elif choice < 0.08:  # a pen stroke through the text, as if somebody ticked or circled it
            points = [(dice.between(left, right), baseline - dice.between(-0.6, 1.6) * cap) for _ in range(2)]
            if dice.chance(0.5):
                pen.line(points, fill=255, width=thick)
            else:
                (ax, ay), (bx, _) = points
                pen.ellipse([min(ax, bx), ay - cap, max(ax, bx) + 1, ay + cap], outline=255, width=thick)
        elif choice < 0.3:  # a dashed, dotted or worn rule, above or below
            y = baseline + (dice.between(0.1, 0.6) if dice.chance(0.6) else -dice.between(1.25, 1.8)) * cap
            step = dice.between(0.15, 1.5) * cap
            for x in np.arange(x0, x1, step):
                if dice.chance(0.85):
                    pen.rectangle([x, y, x + dice.between(0.3, 0.9) * step, y + thick], fill=255)
        elif choice < 0.55:  # an underline, clear of the letters or through their descenders
            y = baseline + dice.between(0.12, 0.55) * cap
            pen.rectangle([x0, y, x1, y + thick], fill=255)
        elif choice < 0.7:
            y = baseline - dice.between(1.35, 1.9) * cap
            pen.rectangle([x0, y, x1, y + thick], fill=255)
        elif choice < 0.85:
            _cell(dice, pen, cap, baseline, left, right, thick)
        else:
            top, bottom = baseline - 1.5 * cap, baseline + 0.6 * cap
            pen.rectangle([left - 0.7 * cap, top, right + 0.7 * cap, bottom], outline=255, width=thick)
    return np.asarray(image)


def _cell(
    dice: Dice, pen: ImageDraw.ImageDraw, cap: float, baseline: int, left: float, right: float, thick: int
) -> None:
    """Draw the visible part of a table cell: rules at one or both sides, and sometimes above and below."""
    top = baseline - dice.between(1.2, 2.0) * cap if dice.chance(0.4) else 0.0
    bottom = baseline + (dice.between(0.35, 0.7) if dice.chance(0.5) else 2.5) * cap
    before, behind = left - dice.between(0.25, 1.6) * cap, right + dice.between(0.25, 1.6) * cap
    for x in dice.sample([before, behind], dice.whole(1, 2)):
        pen.rectangle([x, top, x + thick, bottom], fill=255)
    for y in (top, bottom):
        if dice.chance(0.5):
            pen.rectangle([before, y, behind, y + thick], fill=255)


def _tick_box(
    dice: Dice, pen: ImageDraw.ImageDraw, cap: float, baseline: int, left: float, right: float, thick: int
) -> None:
    """Draw a tick box before or behind the text of a form. It is not text."""
    side = dice.between(0.8, 1.3) * cap
    x = (
        left - side - dice.between(0.2, 0.6) * cap
        if dice.chance(0.7)
        else right + dice.between(0.2, 0.6) * cap
    )
    y = baseline - side + dice.between(-0.1, 0.2) * cap
    pen.rectangle([x, y, x + side, y + side], outline=255, width=thick)
    if dice.chance(0.3):
        pen.line([x, y, x + side, y + side], fill=255, width=thick)
        pen.line([x, y + side, x + side, y], fill=255, width=thick)


def _specks(
    dice: Dice, pen: ImageDraw.ImageDraw, cap: float, baseline: int, left: float, right: float
) -> None:
    """Dust and toner, anywhere in the strip."""
    for _ in range(dice.whole(1, 14)):
        x, y = dice.between(left - cap, right + cap), baseline + dice.between(-1.8, 0.7) * cap
        wide, high = (dice.between(0.03, 0.14) * cap for _ in range(2))
        pen.ellipse([x, y, x + wide, y + high], fill=dice.whole(90, 255))


def _no_text(
    dice: Dice, pen: ImageDraw.ImageDraw, cap: float, baseline: int, left: float, right: float, thick: int
) -> None:
    """Draw one thing that a line finder may take for text: rules, dashes, dots, frames, bars, shapes."""
    y = baseline - dice.between(-0.4, 1.2) * cap
    choice = dice.whole(0, 11)
    if choice == 0:
        pen.rectangle([left - 2 * cap, y, right + 2 * cap, y + thick], fill=255)
    elif choice <= 2:  # dashes, dots or stars in a row
        step, dash = dice.between(0.2, 0.9) * cap, dice.between(0.2, 0.75)
        high = thick if dice.chance(0.7) else dice.between(0.1, 0.4) * cap
        for place in np.arange(left, right, step):
            pen.rectangle([place, y, place + dash * step, y + high], fill=255)
    elif choice == 3:
        x = dice.between(left, right)
        pen.rectangle([x, 0, x + thick, pen.im.size[1]], fill=255)
    elif choice == 4:
        pen.rectangle([left, y - cap, right, y + cap], outline=255, width=thick)
    elif choice == 5:  # a bar code
        x = left
        while x < right:
            wide = dice.between(0.03, 0.2) * cap
            pen.rectangle([x, 0, x + wide, baseline + 2 * cap], fill=255)
            x += wide + dice.between(0.03, 0.2) * cap
    elif choice == 6:
        x, across = dice.between(left, right), dice.between(0.3, 3) * cap
        pen.ellipse([x, y - across, x + 2 * across, y + across], outline=255, width=thick * 2)
    elif choice == 7:  # a stroke of a pen
        x, points = left, [(left, y)]
        for _ in range(dice.whole(3, 12)):
            x += dice.between(-0.4, 1.2) * cap
            points.append((x, baseline + dice.between(-1.8, 0.8) * cap))
        pen.line(points, fill=255, width=thick, joint="curve")
    elif choice == 9:  # boxes to tick
        side = dice.between(0.7, 1.4) * cap
        for place in np.arange(left, right, side * dice.between(1.3, 4)):
            pen.rectangle([place, baseline - side, place + side, baseline], outline=255, width=thick)
    elif choice == 11:  # holes of a punch, larger than any bullet
        across = dice.between(0.35, 0.9) * cap
        for x in [dice.between(left, right) for _ in range(dice.whole(1, 2))]:
            pen.ellipse([x - across, y - across, x + across, y + across], fill=255)
    elif choice == 8:  # the dots of a printed picture
        pitch = dice.between(0.12, 0.5) * cap
        for row, place in enumerate(np.arange(baseline - 2 * cap, baseline + cap, pitch)):
            for x in np.arange(left + (row % 2) * pitch / 2, min(right, left + 40 * pitch), pitch):
                across = pitch * dice.between(0.2, 0.45)
                pen.ellipse([x - across, place - across, x + across, place + across], fill=255)
    else:
        corners = [(dice.between(left, right), baseline + dice.between(-2, 1) * cap) for _ in range(4)]
        pen.polygon(corners, fill=255 if dice.chance(0.5) else None, outline=255)
