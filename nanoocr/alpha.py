"""Handles pictures with transparent pixels, and colours that use only the lower of 16 bits.

Transparent pixels become white paper. Where that hides the letters, another ground is tried.
"""

from __future__ import annotations

from PIL import Image, ImageFile, ImageOps

DEEP_WHITES = (3, 15, 63)  # white in 10, 12 and 14 of 16 bits, as seen in the upper 8 bits
VISIBLE = 64  # difference of the darkest and the lightest pixel below which letters are hardly there
# how many bands are colours, for the modes that can be deep
COLOURS = {"RGB": 3, "RGBA": 3, "RGBX": 3, "LA": 1}


def on_paper(image: Image.Image) -> Image.Image:
    """Turn a picture with transparent pixels into RGB on white paper, if that shows anything.

    Viewers choose their own ground, and files are made for one of them: white letters for a dark ground, or
    letters that are holes. Some programs also write an alpha of zeros that means nothing. If white paper
    shows next to nothing, the first of these other readings that shows more is taken. A result that is mostly
    dark is inverted, so that the ground becomes paper.
    """
    # Premultiplied modes convert only to their plain counterpart.
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
    """Whether a file has 16-bit colours, of which Pillow's readers keep the upper 8 bits."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return image.mode in COLOURS and any(";16" in str(tile[3]) for tile in tiles)


def hides_all(image: Image.Image) -> bool:
    """Whether deep colours are all black in the bits that Pillow keeps, and no alpha shows any letters.

    Programs that store 8 bits in 16 without scaling write such files; their letters are in the lower 8.
    """
    if image.mode not in COLOURS:
        return False
    bands, count = image.split(), COLOURS[image.mode]
    is_black = all(_peak(band) == 0 for band in bands[:count])
    return is_black and all(len(set(band.getextrema())) == 1 for band in bands[count:])


def lifted(image: Image.Image) -> Image.Image:
    """Stretch colours of 10 to 14 bits, stored in 16, to their full range, and the alpha too."""
    if image.mode not in COLOURS:
        return image
    bands = image.split()
    count = COLOURS[image.mode]
    white = _white_of(max(_peak(band) for band in bands[:count]))
    if white == 255:
        return image
    # Depending on the writer, the alpha uses as many bits as the colours, or all 16.
    whites = [white] * count + [max(white, _white_of(_peak(band))) for band in bands[count:]]
    table = [min(255, value * 255 // one) for one in whites for value in range(256)]
    return image.point(table)


def _white_of(peak: int) -> int:
    return next((white for white in DEEP_WHITES if 0 < peak <= white), 255)


def _peak(band: Image.Image) -> int:
    return int(band.getextrema()[1])  # type: ignore[arg-type]
