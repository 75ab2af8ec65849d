"""A page while it is drawn: a coloured ground, a layer of ink, and the place of every inked character.

Text is set glyph by glyph from cached masks. This gives each character's box for free and costs about a
microsecond per character. The ink stays a separate grey layer until the end, so that it can be rotated,
softened, shadowed and coloured on its own.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from nanoocr.data.synth.fonts import Font

Colour = tuple[int, int, int]

# A glyph whose ink would end closer to the edge than this many pixels counts as outside the picture.
EDGE = 1
# A letter may overhang the picture's side by this many pixels; it is then moved inside.
OVERHANG = 12
# A space narrower than this share of the size cannot be told from the gap between two letters.
LEAST_SPACE = 0.24


class Glyph(NamedTuple):
    """One character's ink and where it goes relative to the pen."""

    mask: np.ndarray  # (h, w) uint8 coverage, 255 = full ink; h may be 0
    left: int  # pixels from the pen to the mask's left edge
    top: int  # pixels from the baseline to the mask's top edge; negative is up
    advance: float  # pen movement, pixels


class Place(NamedTuple):
    """Where a face keeps the ink of a character, and the numbers of its Glyph."""

    start: int
    height: int
    width: int
    left: int
    top: int
    advance: float


class Face:
    """A font at one size. Letters are drawn when first used, and the ink of all of them lies in one block.

    The font file is closed soon, because open it takes several times the memory of the letters.
    """

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._ink = bytearray()
        self._known: dict[str, Place] = {}
        # these include the tallest and the deepest characters
        box = opened(path, size).getbbox("|Q(gj$", anchor="ls")
        self.size = size
        self.above = math.ceil(-box[1])  # pixels of ink above the baseline, over all characters
        self.below = math.ceil(box[3])  # pixels of ink below it

    def glyph(self, char: str) -> Glyph:
        """The ink of one character, cropped to what is visible."""
        start, height, width, left, top, advance = self._place(char)
        ink = self._ink[start : start + height * width]
        return Glyph(np.frombuffer(ink, dtype=np.uint8).reshape(height, width), left, top, advance)

    def width(self, text: str, tracking: float = 0.0) -> float:
        """Pixels that the pen moves over `text`; `tracking` is added after each character."""
        return sum([self._place(char).advance for char in text]) + tracking * len(text)

    def fit(self, text: str, width: float, tracking: float = 0.0) -> str:
        """The longest beginning of `text` that is at most `width` pixels wide, without a trailing space."""
        used = 0.0
        for end, char in enumerate(text):
            used += self._place(char).advance + tracking
            if used > width:
                return text[:end].rstrip()
        return text

    def _place(self, char: str) -> Place:
        found = self._known.get(char)
        if found is None:
            mask, left, top, advance = render(opened(self._path, self.size), char)
            height, width = mask.shape
            found = self._known[char] = Place(len(self._ink), height, width, left, top, advance)
            self._ink += mask.tobytes()
        return found


@functools.lru_cache(maxsize=64)
def opened(path: str, size: int) -> ImageFont.FreeTypeFont:
    """The font file at `size` pixels."""
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def render(font: ImageFont.FreeTypeFont, char: str) -> Glyph:
    """One character as the font draws it."""
    core, (left, top) = font.getmask2(char, mode="L", anchor="ls")
    mask = np.asarray(core, dtype=np.uint8).reshape(core.size[1], core.size[0])
    advance = font.getlength(char)
    if char == " ":
        advance = max(advance, LEAST_SPACE * font.size)
    x0, y0, x1, y1 = core.getbbox() or (0, 0, 0, 0)  # a space has no ink
    return Glyph(mask[y0:y1, x0:x1], left + x0, top + y0, advance)


@functools.lru_cache(maxsize=3072)
def face(font: Font, size: int) -> Face:
    """The face of `font` at `size` pixels. The 3,072 used last stay in memory, up to 42 kB each.

    Cards use some 6,000 faces; drawing their letters anew each time would be a third of the work of a card.
    """
    return Face(font.path, size)


class Page:
    """Ground, ink and character boxes of one picture."""

    def __init__(self, size: tuple[int, int], ground: Image.Image | Colour) -> None:
        """`size` is (height, width); `ground` a colour or an RGB picture of that size."""
        self.height, self.width = size
        self.plain = not isinstance(ground, Image.Image)
        self.ground: Image.Image = (
            ground if isinstance(ground, Image.Image) else Image.new("RGB", (self.width, self.height), ground)
        )
        self.ink: np.ndarray = np.zeros(size, np.uint8)
        self.chars: list[str] = []
        self.boxes: list[tuple[float, float, float, float]] = []

    def write(self, face: Face, text: str, x: float, baseline: int, tracking: float = 0.0) -> float:
        """Sets `text` with the pen at (x, baseline), records each character, returns the pen's new x.

        Raises ValueError when a character would leave the picture: the truth must be what is visible.
        """
        for char in text:
            glyph = face.glyph(char)
            if char != " ":
                self._stamp(char, glyph, round(x) + glyph.left, baseline + glyph.top)
            x += glyph.advance + tracking
        return x

    def _stamp(self, char: str, glyph: Glyph, left: int, top: int) -> None:
        height, width = glyph.mask.shape
        # Some italics reach further left of the pen than any margin, so such a letter is pushed back inside.
        inside = min(max(left, 0), self.width - width)
        right, bottom = inside + width, top + height
        if abs(inside - left) > OVERHANG or top < 0 or bottom > self.height:
            raise ValueError(f"{char!r} at ({left}, {top}) leaves the {self.width}x{self.height} picture")
        left = inside
        window = self.ink[top:bottom, left:right]
        np.maximum(window, glyph.mask, out=window)
        self.chars.append(char)
        self.boxes.append((left, top, right, bottom))

    def draw(self) -> ImageDraw.ImageDraw:
        """A pen for rules, bars and patches on the ground, under the ink."""
        self.plain = False
        return ImageDraw.Draw(self.ground)

    def ground_colour(self) -> Colour:
        """The ground's colour in its top left corner."""
        red, green, blue = self.ground.crop((0, 0, 1, 1)).tobytes()
        return (red, green, blue)

    def box_array(self) -> np.ndarray:
        """(characters, 4) float32: x0, y0, x1, y1 in pixels."""
        return np.array(self.boxes, np.float32).reshape(-1, 4)

    def tilt(self, degrees: float, turn_ground: bool = True) -> bool:
        """Turns the page's ink, boxes and, unless it is plain or told otherwise, ground about its centre.

        Positive is counter-clockwise. Nothing is turned, and False comes back, when a character would leave
        the picture.
        """
        boxes = turned_boxes(self.box_array(), degrees, self.width, self.height)
        if len(boxes) and (
            boxes.min() < EDGE or (boxes[:, 2:] > (self.width - EDGE, self.height - EDGE)).any()
        ):
            return False
        self.boxes = list(map(tuple, boxes.tolist()))
        turned = Image.fromarray(self.ink).rotate(degrees, Image.Resampling.BILINEAR)
        self.ink = np.asarray(turned)
        if turn_ground and not self.plain:
            fill = self.ground_colour()
            self.ground = self.ground.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill)
        return True

    def soften(self, radius: float) -> None:
        """Blurs the ink with a Gaussian of `radius` pixels."""
        self.ink = np.asarray(Image.fromarray(self.ink).filter(ImageFilter.GaussianBlur(radius)))

    def colour(self, colour: Colour) -> Image.Image:
        """The finished RGB picture with the ink in `colour`."""
        picture = self.ground
        picture.paste(colour, mask=Image.fromarray(self.ink))
        return picture


def turned_boxes(boxes: np.ndarray, degrees: float, width: int, height: int) -> np.ndarray:
    """The axis-aligned hulls, (n, 4) float32, of `boxes` turned about the picture's centre.

    The centre and the direction are those of PIL's Image.rotate: positive is counter-clockwise on screen.
    """
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    x = boxes[:, [0, 2, 0, 2]] - width / 2
    y = boxes[:, [1, 1, 3, 3]] - height / 2
    turned_x = x * cosine + y * sine + width / 2
    turned_y = y * cosine - x * sine + height / 2
    hulls = [turned_x.min(1), turned_y.min(1), turned_x.max(1), turned_y.max(1)]
    return np.stack(hulls, axis=1).astype(np.float32)
