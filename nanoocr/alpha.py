"""Pictures with transparent pixels, and colours that use only the lower of 16 bits.

What is transparent shows white paper. Where that shows nothing, the letters are found where they are.
"""

from __future__ import annotations

from PIL import Image, ImageFile, ImageOps

DEEP_WHITES = (3, 15, 63)  # 10, 12 and 14 bits in 16, seen through the upper 8 of them
VISIBLE = 64  # levels between the darkest and the lightest pixel; letters of less are hardly there
COLOURS = {"RGB": 3, "RGBA": 3, "RGBX": 3, "LA": 1}  # bands that are colours, of the modes that can be deep


def on_paper(image: Image.Image) -> Image.Image:
    """A picture with transparent pixels as RGB on white paper, if anything is to be seen there.

    A viewer draws on the ground it likes, and files are made for one: white letters are drawn for a dark
    ground, letters that are holes for one as well, and some programs leave an alpha of zeros that means
    nothing. Where white paper shows next to nothing, the first of these that shows more is taken. A ground
    that comes out mostly dark is inverted, so that it is paper.
    """
    # Premultiplied modes have only one conversion, to their plain sibling.
    image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
    plain = _over(image, 255)
    shown = _contrast(plain)
    if shown >= VISIBLE:
        return plain
    others = (_as_paper(_over(image, 0)), image.convert("RGB"))
    best = next((other for other in others if _contrast(other) >= VISIBLE), plain)
    return best if _contrast(best) >= 2 * shown else plain


def _over(image: Image.Image, grey: int) -> Image.Image:
    ground = Image.new("RGBA", image.size, (grey, grey, grey, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def _contrast(image: Image.Image) -> int:
    low, high = image.convert("L").getextrema()
    return int(high) - int(low)  # type: ignore[arg-type]


def _as_paper(image: Image.Image) -> Image.Image:
    histogram = image.convert("L").histogram()
    return ImageOps.invert(image) if sum(histogram[:128]) > sum(histogram[128:]) else image


def has_deep_colours(image: Image.Image) -> bool:
    """Whether a file has colours of 16 bits, of which Pillow's readers keep the upper 8."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return image.mode in COLOURS and any(";16" in str(tile[3]) for tile in tiles)


def lifted(image: Image.Image) -> Image.Image:
    """Colours of 10 to 14 bits in 16, which leave the upper bits unused, at their full range; alpha too."""
    if image.mode not in COLOURS:
        return image
    bands = image.split()
    count = COLOURS[image.mode]
    white = _white_of(max(_peak(band) for band in bands[:count]))
    if white == 255:
        return image
    # The alpha has the bits of the colours, or all 16, as writers like it.
    whites = [white] * count + [max(white, _white_of(_peak(band))) for band in bands[count:]]
    table = [min(255, value * 255 // one) for one in whites for value in range(256)]
    return image.point(table)


def _white_of(peak: int) -> int:
    return next((white for white in DEEP_WHITES if 0 < peak <= white), 255)


def _peak(band: Image.Image) -> int:
    return int(band.getextrema()[1])  # type: ignore[arg-type]
