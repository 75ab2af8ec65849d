"""The overlay: a page with its lines, words, reading order and confidences drawn on it.

This is what to look at first when a reading is wrong: a missing line, a wrong order and a doubtful word each
look different. `draw` gives a Pillow image, `draw_svg` a text that browsers show over the picture itself.
"""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from nanoocr.document import Line, PageLike, Point, Quad, TextPage, hull
from nanoocr.errors import PictureError
from nanoocr.formats.clean import clean

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

    from nanoocr.pages import Source

Color = tuple[int, int, int]

BLOCK_COLOR: Color = (90, 90, 200)
UNKNOWN: Color = (120, 120, 120)  # the color of what has no confidence
FADED = 0.45  # how much of the picture's contrast is kept, so that the drawing stands out
LABEL = 0.42  # height of the numbers, as a share of the line's height
SMALLEST_LABEL, LARGEST_LABEL = 9, 40  # height of the numbers, in pixels
LONGEST_JPEG = 65_500  # pixels; the format's limit for a side, less what the library keeps for itself


def draw(page: PageLike, picture: Source | None = None) -> Image.Image:
    """A copy of the page's picture with its lines and words drawn on it, RGB.

    Words are filled from red (confidence 0) over yellow to green (1), gray without one. Each line has a frame
    with its place in the reading order at its start, and its confidence in percent at its end.

    Args:
        picture: what was read; None opens the file that the page names. Of a PDF or TIFF the page's own page
            is taken; a Pillow image is taken as it is.

    Raises:
        PictureError: the picture cannot be opened.
    """
    from PIL import Image, ImageDraw

    cleaned = clean(page).page
    base = _opened(page, page.file if picture is None else picture).convert("RGB")
    faded = Image.blend(Image.new("RGB", base.size, "white"), base, FADED)
    scale = (base.width / cleaned.width, base.height / cleaned.height)
    shades = Image.new("RGBA", base.size, (0, 0, 0, 0))
    fill = ImageDraw.Draw(shades)
    for line in cleaned.lines:
        for word in line.words:
            color = confidence_color(word.confidence)
            fill.polygon(_scaled(word.quad, scale), fill=(*color, 90), outline=(*color, 255))
    drawn = Image.alpha_composite(faded.convert("RGBA"), shades).convert("RGB")
    pen = ImageDraw.Draw(drawn)
    for number, line in enumerate(cleaned.lines, 1):
        _draw_line(pen, line, number, scale)
    return drawn


def _opened(page: PageLike, source: Source) -> Image.Image:
    from PIL import Image

    from nanoocr.pages import PageRanges, open_source

    if isinstance(source, Image.Image):
        return source
    found = next(open_source(source, pages=PageRanges(((page.page, page.page),))))
    if found.image is None:
        raise found.error or PictureError(f"{page.file} cannot be opened.")
    return found.image


def confidence_color(confidence: float | None) -> Color:
    """Red at 0, yellow at a half, green at 1; gray for None. As (red, green, blue), 0 to 255."""
    if confidence is None:
        return UNKNOWN
    # Most of what readers say lies near 1, and the square spreads that end.
    hue = confidence**2 / 3
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.9, 0.8)
    return (round(red * 255), round(green * 255), round(blue * 255))


def _scaled(quad: Quad, scale: tuple[float, float]) -> list[tuple[float, float]]:
    return [(x * scale[0], y * scale[1]) for x, y in quad]


def _draw_line(pen: ImageDraw.ImageDraw, line: Line, number: int, scale: tuple[float, float]) -> None:
    from PIL import ImageFont

    corners = _scaled(line.quad, scale)
    pen.polygon(corners, outline=BLOCK_COLOR, width=2)
    if line.baseline is not None:
        pen.line([(x * scale[0], y * scale[1]) for x, y in line.baseline], fill=BLOCK_COLOR, width=1)
    font = ImageFont.load_default(_label_size(line.quad) * scale[1])
    _label(pen, corners[0], str(number), font, before=True)
    if line.confidence is not None:
        _label(pen, corners[1], f"{line.confidence:.0%}", font, before=False)


def _label(
    pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, font: object, before: bool
) -> None:
    """A number on a white ground beside the corner: before the line's start or behind its end."""
    anchor = "ra" if before else "la"
    place = (corner[0] - 3 if before else corner[0] + 3, corner[1])
    box = pen.textbbox(place, text, font=font, anchor=anchor)  # type: ignore[arg-type]
    # At the picture's edge the label moves inside.
    width, height = pen.im.size
    shift = (min(0, width - box[2]) - min(0, box[0]), min(0, height - box[3]) - min(0, box[1]))
    place = (place[0] + shift[0], place[1] + shift[1])
    box = pen.textbbox(place, text, font=font, anchor=anchor)  # type: ignore[arg-type]
    pen.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), fill="white")
    pen.text(place, text, fill=BLOCK_COLOR, font=font, anchor=anchor)  # type: ignore[arg-type]


def _label_size(quad: Quad) -> float:
    box = hull(quad)
    return min(max(LABEL * min(box.height, box.width), SMALLEST_LABEL), LARGEST_LABEL)


# ---------------------------------------------------------------------------------------------------
# SVG


def draw_svg(page: PageLike, href: str) -> str:
    """The overlay as SVG over the picture at `href`; each word tells its text when pointed at.

    Args:
        href: the address of a picture that browsers show, or the picture itself: see `picture_uri`.
    """
    cleaned = clean(page).page
    size = f'width="{cleaned.width}" height="{cleaned.height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {cleaned.width} {cleaned.height}">',
        f"<title>{escape(_title(cleaned))}</title>",
        # The picture is faded, so a dark window must not shine through.
        f'<rect {size} fill="#fff"/>',
        f'<image href={quoteattr(href)} {size} opacity="{FADED}" preserveAspectRatio="none"/>',
    ]
    for number, line in enumerate(cleaned.lines, 1):
        parts += _svg_line(line, number, cleaned)
    return "\n".join([*parts, "</svg>", ""])


def picture_uri(image: Image.Image) -> str:
    """The picture as a `data:` address, so that an SVG holds it and stays whole wherever it is moved.

    It is a JPEG, since a photograph as PNG is many times as large; a picture too long for that is a PNG.
    """
    kind = "JPEG" if max(image.size) <= LONGEST_JPEG else "PNG"
    file = io.BytesIO()
    image.convert("L" if image.mode in ("1", "L") else "RGB").save(file, kind, quality=80)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _title(page: TextPage) -> str:
    return page.file if page.page == 1 else f"{page.file}, page {page.page}"


def _svg_line(line: Line, number: int, page: TextPage) -> Sequence[str]:
    color, size = _hex(BLOCK_COLOR), _label_size(line.quad)
    parts = ["<g>"]
    for word in line.words:
        shade = _hex(confidence_color(word.confidence))
        share = "" if word.confidence is None else f" {word.confidence:.0%}"
        parts.append(
            f'<polygon points="{_svg_points(word.quad)}" fill="{shade}" fill-opacity=".35" stroke="{shade}">'
            f"<title>{escape(word.text)}{share}</title></polygon>"
        )
    frame = f'fill="none" stroke="{color}"'
    parts.append(f'<polygon points="{_svg_points(line.quad)}" {frame} stroke-width="2"/>')
    if line.baseline is not None:
        parts.append(f'<polyline points="{_svg_points(line.baseline)}" {frame}/>')
    parts.append(_svg_label(line.quad[0], str(number), size, page, before=True))
    if line.confidence is not None:
        parts.append(_svg_label(line.quad[1], f"{line.confidence:.0%}", size, page, before=False))
    return [*parts, "</g>"]


def _svg_label(corner: Point, text: str, size: float, page: TextPage, before: bool) -> str:
    """A number with a white rim beside the corner: before the line's start or behind its end."""
    # Digits are no wider than two thirds of their size; so much has to fit before the picture's edge.
    width = 0.67 * size * len(text)
    left = corner[0] - 3 - width if before else corner[0] + 3
    left = max(0.0, min(left, page.width - width))
    x, anchor = (left + width, "end") if before else (left, "start")
    y = max(size, min(corner[1] + size, page.height - 1))
    style = f'font-family="sans-serif" font-size="{size:.0f}" fill="{_hex(BLOCK_COLOR)}"'
    rim = 'stroke="#fff" stroke-width="3" paint-order="stroke"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style} {rim}>{text}</text>'


def _svg_points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
