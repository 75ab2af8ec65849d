"""Strips: one line of text as it is cut out of a real page, 64 pixels high, or a strip without any text.

Lines of real pages are hard because of damage at their own resolution, before they are enlarged: letters 6 to
40 pixels high, faded or bled ink, JPEG, noise, thresholds. So a line is drawn large, shrunk to such a height,
damaged there (strip_wear.py), and only then enlarged to the height at which the model reads.

The geometry resembles that of nanoocr.layout.strips: capitals are CAP pixels high and stand on BASELINE, with
errors like those of a line finder. Beyond the ink the strip continues in the colour of its paper.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nanoocr.alphabet import CHARACTERS
from nanoocr.config import CELL
from nanoocr.data.glyphs import NOTHING
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import Font
from nanoocr.data.synth.line_text import drawable_text, line_text
from nanoocr.data.synth.page import Colour, Face, Page, face, opened, render
from nanoocr.data.synth.sample import SynthSample
from nanoocr.data.synth.strip_marks import cut_letter, mirrored, rules
from nanoocr.data.synth.strip_wear import StripWear, choose_wear, in_dots, wear_ink, wear_strip

HEIGHT = CELL  # pixels, of every strip
WIDTHS = (64, 128, 192, 256, 320, 384, 448, 512, 640, 768)  # pixels
CAP, BASELINE = 32, 48  # height of capitals, and row of the baseline, in pixels of the strip
EMPTY = 0.08  # share of strips without text
MASTER_SIZES = (36, 48, 64)  # font sizes in pixels that lines are drawn at before they are shrunk
MOST_COLUMNS = 1000  # a line may be this many pixels wide at the resolution of its page
LOW = frozenset("acegmnopqrsuvwxyz.,:;-–_…•·~«»<>=+")  # characters that do not rise above an x
ONE_DASH = str.maketrans("–—", "--")
Box = tuple[float, float, float, float]
NO_PLACE = np.zeros((1, 4), np.float32)  # the box of NOTHING
ROOM = 12  # pixels of paper left and right of the text, in strip pixels


@dataclass(frozen=True)
class Window:
    """Which part of a drawn line the strip shows, in pixels of the drawing."""

    left: float
    top: float
    scale: float  # strip pixels for one pixel of the drawing
    stretch: float  # see StripWear
    width: int  # filled pixels of the strip, before the padding

    @property
    def box(self) -> Box:
        """x0, y0, x1, y1 in pixels of the drawing."""
        right = self.left + self.width / (self.scale * self.stretch)
        return self.left, self.top, right, self.top + HEIGHT / self.scale

    def boxes_in(self, boxes: np.ndarray, width: int) -> np.ndarray:
        """Boxes (n, 4) of the drawing in pixels of a strip that is so wide with its padding."""
        scales = np.array([self.scale * self.stretch, self.scale] * 2, np.float32)
        return inside((boxes - np.array([self.left, self.top] * 2, np.float32)) * scales, width)


def make_strip(dice: Dice, fonts: Sequence[Font]) -> SynthSample:
    """A strip of one line, or an empty one whose answer is ""; the prompt is "Read."."""
    font = dice.pick(fonts)
    wear = choose_wear(dice)
    empty = dice.chance(EMPTY)
    text, guessable = ("", True) if empty else _text(dice, font)
    drawn = _draw_line(dice, font, text, wear)
    window = _window(dice, drawn, wear.stretch)
    ink = wear_ink(dice, _shrunk(dice, drawn, window, wear), wear)
    picture = wear_strip(dice, ink, wear, without_text=not drawn.text)
    strip = _enlarged(dice, picture, window.width)
    return SynthSample(
        image=strip,
        prompt="Read.",
        answer=drawn.text,
        kind="strip",
        font=font.family,
        chars=drawn.chars or NOTHING,
        boxes=window.boxes_in(drawn.boxes, strip.width) if drawn.chars else inside(NO_PLACE, strip.width),
        guessable=guessable,
    )


def inside(boxes: np.ndarray, width: int) -> np.ndarray:
    """Boxes (n, 4) float32 without what hangs over the edges of a strip, at least a pixel wide and high."""
    lows = np.clip(boxes[:, :2], 0, (width - 1, HEIGHT - 1))
    highs = np.minimum(np.maximum(boxes[:, 2:], lows + 1), (width, HEIGHT))
    return np.concatenate([lows, highs], axis=1).astype(np.float32)


def _text(dice: Dice, font: Font) -> tuple[str, bool]:
    """A line of 1 to some 50 characters; short ones are common on receipts and forms."""
    room = dice.whole(1, 8) if dice.chance(0.25) else dice.whole(6, 46)
    line, guessable = line_text(dice, room)
    line = drawable_text(line, drawable(font))
    # Typewriters and tills have one dash, as long as an en dash elsewhere.
    return (line.translate(ONE_DASH) if _is_fixed(font) else line), guessable


@functools.lru_cache(maxsize=2048)
def _is_fixed(font: Font) -> bool:
    """Whether all letters of a font are as wide as each other."""
    probe = opened(font.path, 24)
    return bool(probe.getlength("i") == probe.getlength("M"))


@functools.lru_cache(maxsize=2048)
def drawable(font: Font) -> frozenset[str]:
    """The characters of the alphabet for which a font has a glyph of its own."""
    probe = opened(font.path, 24)
    missing = render(probe, "\U0010fffe").mask.tobytes()
    return frozenset(char for char in CHARACTERS if char == " " or _has(render(probe, char).mask, missing))


def _has(mask: np.ndarray, missing: bytes) -> bool:
    return bool(mask.any()) and mask.tobytes() != missing


# --- drawing ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A line at the size at which it is drawn."""

    ink: np.ndarray  # (H, W) uint8 coverage
    text: str  # as much of the text as fits a strip
    chars: str
    boxes: np.ndarray  # (len(chars), 4) float32
    cap: float  # height of capitals, pixels
    low: float  # height of an x, pixels
    baseline: float  # row
    left: float  # left end of the text
    right: float


def _draw_line(dice: Dice, font: Font, text: str, wear: StripWear) -> Drawn:
    """The line, its neighbours above and below as far as they reach into the strip, and rules."""
    size = dice.pick(MASTER_SIZES)
    letters = face(font, size)
    cap = _cap_height(letters)
    text = _fitted(letters, text, 1.25 * (WIDTHS[-1] - 2 * ROOM) / CAP * cap / max(1.0, wear.stretch))
    tracking = _tracking(dice) * size
    gaps = [_gap(dice, letters, cap) for _ in range(text.count(" "))]
    length = letters.width(text, tracking) + sum(gaps) if text else dice.between(1, 22) * cap
    margin = int(4 * cap)
    height, width = int(6.6 * cap) + letters.below, int(length + 2 * margin)
    baseline = int(3.8 * cap)
    page = Page((height, width), (255, 255, 255))
    end = _write(page, letters, text, margin, baseline, tracking, gaps) if text else margin + length
    chars, boxes = "".join(page.chars), page.box_array()
    # Line finders often return strips without text that touch other lines, so empty strips do so more often.
    if dice.chance(0.9 if not text and dice.chance(0.3) else 0.35):
        _neighbours(dice, page, font, size, baseline, empty=not text)
    ink = page.ink
    if text and dice.chance(0.15):
        end = cut_letter(dice, page, letters, end, baseline)
    if not text and dice.chance(0.12):
        ink = mirrored(dice, letters, drawable_text(line_text(dice, 46)[0], drawable(font)), ink, baseline)
    else:
        ink = rules(dice, ink, cap, baseline, margin, end, empty=not text)
    if wear.slant:
        ink, boxes = _sheared(ink, boxes, wear.slant, baseline)
    low = float(-letters.glyph("x").top)
    return Drawn(ink, text, chars, boxes, cap, low, baseline, margin, end)


def _tracking(dice: Dice) -> float:
    """How much wider letters are spaced than the font does it, in font sizes; below 0 they touch."""
    choice = dice.unit()
    if choice < 0.22:
        return dice.between(-0.05, 0.12)
    return dice.between(0.12, 0.4) if choice < 0.25 else 0.0


def _fitted(letters: Face, text: str, room: float) -> str:
    """As many words as `room` pixels hold; a single word is cut."""
    fitted = letters.fit(text, room)
    return fitted if fitted == text else fitted.rpartition(" ")[0] or fitted


@functools.lru_cache(maxsize=4096)
def _cap_height(letters: Face) -> float:
    return float(-letters.glyph("H").top)


def _gap(dice: Dice, letters: Face, cap: float) -> float:
    """The width of a blank relative to the font's own; sometimes it is as wide as a gap between columns."""
    own = letters.glyph(" ").advance
    if dice.chance(0.05):
        return dice.between(0.8, 3.0) * cap
    return dice.between(-0.4, 0.6) * own if dice.chance(0.5) else 0.0


def _write(
    page: Page, letters: Face, text: str, x: float, baseline: int, tracking: float, gaps: Sequence[float]
) -> float:
    """Sets the words with their own gaps between them; returns where the last one ends."""
    for place, word in enumerate(text.split(" ") if text else []):
        if place:
            x += letters.glyph(" ").advance + gaps[place - 1]
        x = page.write(letters, word, x, baseline, tracking)
    return x


def _neighbours(dice: Dice, page: Page, font: Font, size: int, baseline: int, *, empty: bool) -> None:
    """Draw the lines above and below, parts of which reach into the strip. They are not part of the truth."""
    other = face(font, size)
    pitch = int(dice.between(1.05, 1.5) * (other.above + other.below))
    if empty:  # Show only the edges of other lines, so far away that no letter is whole.
        pitch = max(pitch, int(1.9 * _cap_height(other)) + other.below)
    for row in (baseline - pitch, baseline + pitch):
        # Accents on capitals rise higher than ASCII letters, and cedillas hang lower.
        if row - 1.5 * other.above < 0 or row + 2 * other.below >= page.height:
            continue
        line = drawable_text(line_text(dice, 60)[0], drawable(font))
        x = dice.between(0, 2 * size) if dice.chance(0.3) else size / 2
        page.write(other, other.fit(line, page.width - x - size), x, row)


def _sheared(
    ink: np.ndarray, boxes: np.ndarray, slant: float, baseline: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ink with rows falling by `slant` pixels per pixel, as the rest of a tilt; boxes move along."""
    middle = ink.shape[1] / 2
    shift = (1.0, 0.0, 0.0, -slant, 1.0, slant * middle)  # output -> input
    image = Image.fromarray(ink)
    turned = image.transform(image.size, Image.Transform.AFFINE, shift, Image.Resampling.BILINEAR)
    moved = boxes.copy()
    if len(moved):
        moved[:, 1::2] += (slant * ((boxes[:, 0] + boxes[:, 2]) / 2 - middle))[:, None]
    return np.asarray(turned), moved


def mostly_low(text: str) -> bool:
    """Whether at most a fifth of the letters of `text` rise above an x."""
    letters = text.replace(" ", "")
    return len(letters) > 0 and sum(char in LOW for char in letters) >= 0.8 * len(letters)


# --- shrinking and enlarging ------------------------------------------------------------------------------


def _window(dice: Dice, drawn: Drawn, stretch: float) -> Window:
    """Choose where the strip is cut: capitals near CAP on BASELINE, with the errors of line finders."""
    spread = 0.1 if dice.chance(0.7) else 0.25
    cap = CAP * size_error(dice, spread)
    scale = cap / (drawn.low if low_for_capitals(dice, drawn.text) else drawn.cap)
    margins = _margin(dice), _margin(dice)
    length = (drawn.right - drawn.left) * stretch
    return window_at(dice, (drawn.left, drawn.baseline), length, scale, margins, shift=5, stretch=stretch)


def size_error(dice: Dice, spread: float) -> float:
    """The factor by which a finder mistakes the size of letters, mostly by less than such a share."""
    return float(np.exp(spread * (dice.unit() + dice.unit() + dice.unit() - 1.5) * 2))


def low_for_capitals(dice: Dice, text: str) -> bool:
    """Whether a finder takes the height of an x for that of capitals, as hardly a letter rises above it."""
    return mostly_low(text) and dice.chance(0.7)


def window_at(
    dice: Dice,
    start: tuple[float, float],
    length: float,
    scale: float,
    margins: tuple[float, float],
    *,
    shift: float,
    stretch: float = 1.0,
) -> Window:
    """Cut a line that starts at (x, baseline) and is `length` wide; `shift` is the largest error of its row.

    `margins` are strip pixels before and behind it. A line that would be wider than any view is scaled less.
    """
    (x, baseline), (before, behind) = start, margins
    scale = min(scale, (WIDTHS[-1] - before - behind) / length)
    rise = BASELINE + (dice.unit() + dice.unit() - 1) * shift
    width = round(length * scale + before + behind)
    return Window(
        left=x - before / (scale * stretch),
        top=baseline - rise / scale,
        scale=scale,
        stretch=stretch,
        width=min(max(16, width), WIDTHS[-1]),
    )


def _margin(dice: Dice) -> float:
    """Strip pixels left or right of the text; more where a finder took a rule for a letter."""
    return max(1.0, ROOM + dice.between(-10, 10)) + (dice.between(0, 50) if dice.chance(0.12) else 0.0)


def _shrunk(dice: Dice, drawn: Drawn, window: Window, wear: StripWear) -> np.ndarray:
    """(h, w) float32 coverage 0 to 1 at the resolution of the page, cut as the strip will be.

    A printer or fax with dots of its own may come between the drawing and the page.
    """
    # Small letters are the hard ones. Very long lines must stay below the size of the noise tile.
    rows = max(14, min(round(HEIGHT * wear.cap / CAP), HEIGHT * MOST_COLUMNS // window.width))
    columns = max(6, round(window.width * rows / HEIGHT))
    image, box = _holding(drawn.ink, window.box)
    if not wear.dots:
        return np.asarray(image.resize((columns, rows), wear.filter, box=box)).astype(np.float32) / 255
    high = max(14, min(round(HEIGHT * wear.dots / CAP), HEIGHT * MOST_COLUMNS // window.width))
    wide = max(6, round(window.width * high / HEIGHT / (2 if dice.chance(0.1) else 1)))
    printed = image.resize((wide, high), Image.Resampling.BOX, box=box)
    dots = Image.fromarray(in_dots(dice, np.asarray(printed).astype(np.float32) / 255))
    smooth = Image.Resampling.BOX if dice.chance(0.4) else Image.Resampling.BILINEAR
    return np.asarray(dots.resize((columns, rows), smooth)).clip(0, 1)


def _holding(ink: np.ndarray, box: Box) -> tuple[Image.Image, Box]:
    """Pad the drawing with paper as far as the box (x0, y0, x1, y1) reaches beyond it; returns the moved box.

    A long line of wide letters is scaled down so much that the strip shows more than was drawn.
    """
    (height, width), (x0, y0, x1, y1) = ink.shape, box
    over = max(0, math.ceil(max(-x0, -y0, x1 - width, y1 - height)))
    image = Image.fromarray(np.pad(ink, over) if over else ink)
    return image, (x0 + over, y0 + over, x1 + over, y1 + over)


def _enlarged(dice: Dice, picture: Image.Image, width: int) -> Image.Image:
    """The worn picture at the height of a strip, as wide as a view."""
    filter_ = Image.Resampling.BICUBIC if dice.chance(0.8) else Image.Resampling.BILINEAR
    return continued(picture.resize((width, HEIGHT), filter_))


def continued(strip: Image.Image) -> Image.Image:
    """The strip as wide as the next view, continued in the colour of its paper."""
    width = strip.width
    view = next(view for view in WIDTHS if view >= width)
    if view == width:
        return strip
    canvas = Image.new("RGB", (view, HEIGHT), paper_of(strip))
    canvas.paste(strip, (0, 0))
    return canvas


def paper_of(strip: Image.Image) -> Colour:
    """The colour of the paper: the median of the strip's border."""
    pixels = np.asarray(strip)
    border = np.concatenate(
        [pixels[:3].reshape(-1, 3), pixels[-3:].reshape(-1, 3), pixels[:, -3:].reshape(-1, 3)]
    )
    red, green, blue = np.median(border, axis=0).astype(int).tolist()
    return (red, green, blue)
