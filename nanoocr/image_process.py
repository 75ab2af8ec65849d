"""From pictures to views: fits or tiles a picture, normalises it, and counts its vision tokens.

A *view* is one picture tensor for the encoder, (3, height, width) in [-1, 1]. Both sides are multiples of 64,
because 64 x 64 pixels become one vision token (patches of 16, then 4 x 4 patches merged). A picture is seen
in one view, or in the Gundam modes in one view plus a grid of tiles.
Every size here is (height, width), as in tensors; only Pillow's own calls take (width, height).
Letters: N pictures, H height, W width, C = 3 channels; R rows and K columns of tiles, h w their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from nanoocr.config import CELL
from nanoocr.errors import UsageError
from nanoocr.moved import moved
from nanoocr.pictures import Size, to_rgb

__getattr__ = moved(__name__, {"open_image": "nanoocr.pictures"})

PAD_VALUE = 127  # the released model's grey, which is nearest to 0 after normalising


# ---------------------------------------------------------------------------------------------------
# Views


def process_image(image: Image.Image, size: Size, *, stretch: bool = False) -> torch.Tensor:
    """Fit a picture into a view: (3, H, W) float32 in [-1, 1] for size (H, W).

    The aspect ratio is kept (bicubic) and the rest padded with grey 127, centred. With `stretch` the picture
    fills the view whatever its ratio, as the released model does for its square modes up to 640
    (DeepSeek-OCR's Tiny and Small). A picture that already has the size is returned unchanged.
    Raises UsageError for a size the encoder cannot take.
    """
    pixels_HWC = torch.from_numpy(np.array(fit_image(image, size, stretch=stretch)))
    return normalise(pixels_HWC[None])[0]


def fit_image(image: Image.Image, size: Size, *, stretch: bool = False) -> Image.Image:
    """The picture of `process_image` before normalising: RGB, exactly of (height, width) `size`."""
    count_vision_tokens(size)  # this refuses sides that are not multiples of 64
    image = to_rgb(image)
    image_size = (image.height, image.width)
    if image_size != size:
        target = size if stretch else contained_size(image_size, size)
        image = image.resize((target[1], target[0]), Image.Resampling.BICUBIC)
        image = _pad(image, size)
    return image


def contained_size(image_size: Size, size: Size) -> Size:
    """The largest (height, width) with the picture's aspect ratio that fits into `size`; sides >= 1.

    It rounds as Pillow's ImageOps.contain, which the released model uses.
    """
    (h, w), (H, W) = image_size, size
    if w * H > h * W:
        return max(1, round(h / w * W)), W
    if w * H < h * W:
        return H, max(1, round(w / h * H))
    return H, W


def _pad(image: Image.Image, size: Size) -> Image.Image:
    H, W = size
    if (image.height, image.width) == size:
        return image
    canvas = Image.new("RGB", (W, H), (PAD_VALUE,) * 3)
    canvas.paste(image, (padding_before(image.width, W), padding_before(image.height, H)))
    return canvas


def padding_before(length: int, side: int) -> int:
    """Pixels of padding before `length` pixels that are centred in `side`, rounded as Pillow does."""
    return round((side - length) * 0.5)


def normalise(pixels_NHWC: torch.Tensor) -> torch.Tensor:
    """Turn uint8 pixels (N, H, W, 3) into views (N, 3, H, W), float32 in [-1, 1] (mean and std 0.5).

    Training batches and single pictures use this same function, so both are bit-equal.
    """
    if pixels_NHWC.dtype != torch.uint8 or pixels_NHWC.ndim != 4 or pixels_NHWC.shape[-1] != 3:
        found = f"{pixels_NHWC.dtype} {tuple(pixels_NHWC.shape)}"
        raise UsageError(f"normalise takes uint8 pixels of shape (N, H, W, 3), found {found}.")
    x_NCHW = pixels_NHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    # (p/255 - 0.5) / 0.5 = (p - 127.5) / 127.5; this form hits -1 and 1 exactly.
    return x_NCHW.sub_(127.5).div_(127.5)


def to_pixels(view_CHW: torch.Tensor) -> torch.Tensor:
    """The inverse of `normalise` for one view: (3, H, W) float to (H, W, 3) uint8."""
    pixels_CHW = view_CHW.float().mul(127.5).add_(127.5).round_().clamp_(0, 255)
    return pixels_CHW.to(torch.uint8).permute(1, 2, 0).contiguous()


def choose_view(image_size: Size, views: Sequence[Size]) -> Size:
    """The view that the contained picture covers most; among equals the smallest one that need not shrink it.

    If all equals would shrink it, the largest of them is returned. All sizes are (height, width). Raises
    UsageError when there is no view to choose from.
    """
    if not views:
        raise UsageError("There is no view to choose from: name at least one (height, width).")
    h, w = image_size

    def rank(view: Size) -> tuple[Fraction, bool, int]:
        """Sorts views: the largest covered share, then one that need not shrink, then the nearest size."""
        # The covered share is the ratio of the two aspect ratios. Fractions make equal ratios compare as
        # equal.
        H, W = view
        covered = Fraction(min(w * H, h * W), max(w * H, h * W))
        shrinks = h > H or w > W
        return -covered, shrinks, -H * W if shrinks else H * W

    return min(views, key=rank)


# ---------------------------------------------------------------------------------------------------
# Resolution modes


@dataclass(frozen=True)
class Mode:
    """A resolution mode of DeepSeek-OCR (arXiv 2510.18234, section 3.2.2): its square view and its tiles."""

    side: int  # side of the view of the whole picture
    tile: int = 0  # side of a tile; 0 means no tiles

    @property
    def stretch(self) -> bool:
        """Whether a page is squashed into the view. The released code does it for small squares only."""
        return not self.tile and self.side <= 640


MODES = {
    "tiny": Mode(512),
    "small": Mode(640),
    "base": Mode(1024),
    "large": Mode(1280),
    "gundam": Mode(1024, tile=640),
    "gundam-m": Mode(1280, tile=1024),
}
MIN_TILES, MAX_TILES = 2, 9  # number of tiles of a tiled picture, as in the paper and the released code


def mode(name: str) -> Mode:
    """The mode called `name`. Raises UsageError for any other word."""
    if name not in MODES:
        raise UsageError(f"unknown mode {name!r}: choose one of {', '.join(MODES)}")
    return MODES[name]


class PictureViews(NamedTuple):
    """What the encoder sees of one picture: the overview, and in the Gundam modes the tiles.

    They are float views (3, H, W) and (R, K, 3, h, w), or uint8 pixels (H, W, 3) and (R, K, h, w, 3).
    """

    overview: torch.Tensor
    tiles: torch.Tensor | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles; (0, 0) where there are none."""
        return (0, 0) if self.tiles is None else (self.tiles.shape[0], self.tiles.shape[1])

    def to(self, device: torch.device) -> PictureViews:
        """A copy on another device."""
        return PictureViews(self.overview.to(device), None if self.tiles is None else self.tiles.to(device))

    def flat(self) -> list[torch.Tensor]:
        """The tiles in reading order and then the overview, which is the order of the encoder's features."""
        return [*(() if self.tiles is None else self.tiles.flatten(0, 1)), self.overview]


def as_picture(view: torch.Tensor | PictureViews) -> PictureViews:
    """Wrap a bare view as a picture without tiles."""
    return view if isinstance(view, PictureViews) else PictureViews(view)


def count_picture_tokens(picture: PictureViews) -> int:
    """Vision tokens of a picture: its overview's, plus (h R)(w K + 1) for R x K tiles of h x w tokens."""
    channels_last = picture.overview.dtype == torch.uint8

    def cells(view: torch.Tensor) -> tuple[int, int]:
        """Rows and columns of vision tokens in a view, of shape (..., H, W, 3) or (..., 3, H, W)."""
        height, width = view.shape[-3:-1] if channels_last else view.shape[-2:]
        return height // CELL, width // CELL

    rows, columns = cells(picture.overview)
    tokens = count_vision_tokens((rows * CELL, columns * CELL))
    if picture.tiles is not None:
        (R, K), (h, w) = picture.grid, cells(picture.tiles)
        tokens += R * h * (K * w + 1)
    return tokens


def count_tokens_of_size(image_size: Size, views: Sequence[Size], mode: Mode | None = None) -> int:
    """`count_picture_tokens` for a picture of (height, width) after `fit_picture`, without its pixels."""
    if mode is None:
        return count_vision_tokens(choose_view(image_size, views))
    tokens = count_vision_tokens((mode.side, mode.side))
    R, K = tile_grid(image_size, mode)
    cells = mode.tile // CELL
    return tokens + R * cells * (K * cells + 1)


def fit_picture(image: Image.Image, views: Sequence[Size], mode: Mode | None = None) -> PictureViews:
    """The uint8 pixels of a picture fitted into the best of `views`, or as `mode` says.

    Raises UsageError for a size the encoder cannot take.
    """
    image = to_rgb(image)
    if mode is None:
        return PictureViews(_pixels(fit_image(image, choose_view((image.height, image.width), views))))
    overview = _pixels(fit_image(image, (mode.side, mode.side), stretch=mode.stretch))
    grid = tile_grid((image.height, image.width), mode)
    return PictureViews(overview, None if grid == (0, 0) else _cut(image, grid, mode.tile))


def normalised(pixels: PictureViews) -> PictureViews:
    """Turn a picture's uint8 pixels into float views in [-1, 1]; float views stay as they are."""
    if pixels.overview.dtype != torch.uint8:
        return pixels
    overview = normalise(pixels.overview[None])[0]
    if pixels.tiles is None:
        return PictureViews(overview)
    tiles = normalise(pixels.tiles.flatten(0, 1)).unflatten(0, pixels.grid)
    return PictureViews(overview, tiles)


def tile_grid(image_size: Size, mode: Mode) -> tuple[int, int]:
    """(rows, columns) of tiles for a picture (height, width); (0, 0) where it is not tiled.

    A picture that fits one tile is not tiled. Otherwise all grids of MIN_TILES to MAX_TILES tiles are
    compared, by rising number of tiles, then columns, then rows. The grid whose columns / rows is nearest to
    width / height wins. Of two equally near grids the later one wins if the picture has more than half of its
    pixels. This is done in floating point, as in the released code, so that near ties fall the same way.
    """
    (h, w), side = image_size, mode.tile
    if not side or max(h, w) <= side:
        return 0, 0
    best, nearest = (0, 0), float("inf")
    for rows, columns in _grids():
        distance = abs(w / h - columns / rows)
        fills = w * h > 0.5 * side * side * rows * columns
        if distance < nearest or (distance == nearest and fills):
            best, nearest = (rows, columns), distance
    return best


def _grids() -> list[tuple[int, int]]:
    pairs = [(k * r, k, r) for k in range(1, MAX_TILES + 1) for r in range(1, MAX_TILES // k + 1)]
    return [(r, k) for tiles, k, r in sorted(pairs) if tiles >= MIN_TILES]


def _cut(image: Image.Image, grid: tuple[int, int], side: int) -> torch.Tensor:
    """(R, K, side, side, 3): the picture stretched over the whole grid, cut in reading order."""
    R, K = grid
    mosaic = _pixels(image.resize((K * side, R * side), Image.Resampling.BICUBIC))
    return mosaic.view(R, side, K, side, 3).transpose(1, 2).contiguous()


def _pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image))


# ---------------------------------------------------------------------------------------------------
# Tokens


def count_vision_tokens(size: Size) -> int:
    """Vision tokens of a view (height, width): h/64 rows of w/64 tokens and a newline each, plus a separator.

    512 -> 73, 640 -> 111, 1024 -> 273, 1280 -> 421 for squares. Raises UsageError when a side is not a
    positive multiple of 64.
    """
    height, width = size
    if height <= 0 or width <= 0 or height % CELL or width % CELL:
        raise UsageError(
            f"A view of {height} x {width} (height x width) cannot be encoded: "
            f"both sides must be positive multiples of {CELL}."
        )
    return (height // CELL) * (width // CELL + 1) + 1


def expand_image_tokens(ids: list[int], image_id: int, counts: Sequence[int]) -> list[int]:
    """Replace the i-th single <|image|> id by counts[i] such ids, one for each vision vector.

    Raises UsageError when placeholders and counts differ in number, or when a count is not positive.
    """
    found = ids.count(image_id)
    if found != len(counts):
        raise UsageError(f"The ids hold {found} <|image|> placeholders for {len(counts)} pictures.")
    if any(count < 1 for count in counts):
        raise UsageError(f"Every picture needs at least one vision token, found counts {list(counts)}.")
    remaining = iter(counts)
    expanded: list[int] = []
    for token in ids:
        expanded.extend([token] * (next(remaining) if token == image_id else 1))
    return expanded
