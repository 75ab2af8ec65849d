"""One row on its way to a batch: first planned (ids, lengths), then fitted (pixels, glyph targets).

A plan needs the size of a picture and no pixel of it, so that many rows can be held and packed by length;
only those that enter a batch are decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from nanoocr.config import PATCH
from nanoocr.data.rows import NO_BOXES, BadRowError, Row
from nanoocr.errors import PictureError, UsageError
from nanoocr.image_process import (
    Mode,
    PictureViews,
    contained_size,
    count_tokens_of_size,
    fit_picture,
    padding_before,
    upright_size,
)
from nanoocr.tokenizer import Tokenizer, render_conversation
from nanoocr.train.glyph import glyph_targets


class Plan(NamedTuple):
    """A tokenised row whose pictures are still as they came."""

    row: Row
    ids: list[int]
    mask: list[int]  # 1 where the token is supervised
    views: Sequence[tuple[int, int]]  # (height, width) to choose from, and
    mode: Mode | None  # the resolution mode, which comes before them

    @property
    def length(self) -> int:
        """Positions that it takes: the last token is only ever a target."""
        return len(self.ids) - 1


class Example(NamedTuple):
    """One row, ready to be batched."""

    ids: list[int]
    mask: list[int]
    pixels: tuple[PictureViews, ...]  # uint8, channels last
    glyphs: tuple[PictureViews, ...]  # the same views as uint8 classes (H/16, W/16, slots)


class TooLongError(UsageError):
    """A row that needs more tokens than it may have."""


def prepare(
    row: Row,
    tokenizer: Tokenizer,
    views: Sequence[tuple[int, int]],
    max_length: int,
    mode: Mode | None = None,
) -> Example:
    """Tokenise a row and fit its pictures into the best of `views` (height, width), or as `mode` says.

    Raises:
        TooLongError: the conversation has more than `max_length` tokens; nothing is cut. Names the row.
        BadRowError: a picture cannot be read.
    """
    return fit(plan(row, tokenizer, views, max_length, mode))


def plan(
    row: Row,
    tokenizer: Tokenizer,
    views: Sequence[tuple[int, int]],
    max_length: int,
    mode: Mode | None = None,
) -> Plan:
    """The first half of `prepare`: everything but the pixels. Pictures stand before the first question."""
    try:
        sizes = [upright_size(picture, name=row.picture_name(i)) for i, picture in enumerate(row.pictures)]
    except PictureError as error:
        raise BadRowError(str(error)) from error
    counts = [count_tokens_of_size(size, views, mode) for size in sizes]
    messages: list[dict[str, object]] = []
    for turn in row.turns:
        content = [{"type": "text", "text": turn.user}]  # as a part: literal, whatever it says
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": turn.assistant}]
    messages[0]["content"] = [*({"type": "image"} for _ in counts), *messages[0]["content"]]  # type: ignore[misc]
    ids, mask = render_conversation({"messages": messages}, tokenizer, image_token_counts=counts)
    if len(ids) > max_length:
        raise TooLongError(f"{row.id}: {len(ids)} tokens, max_length is {max_length}")
    return Plan(row, ids, mask, views, mode)


def fit(planned: Plan) -> Example:
    """The second half of `prepare`: decode the pictures and fit them.

    Raises:
        BadRowError: a picture that its header promised cannot be decoded.
    """
    row, mode = planned.row, planned.mode
    try:
        images = row.images()
    except PictureError as error:
        raise BadRowError(str(error)) from error
    pixels = tuple(fit_picture(image, planned.views, mode) for image in images)
    known = [(row.chars, row.boxes)] + [("", NO_BOXES)] * len(images)  # of the first picture only
    glyphs = tuple(
        picture_glyphs(image, views, mode, *marks) for image, views, marks in zip(images, pixels, known)
    )
    return Example(planned.ids, planned.mask, pixels, glyphs)


def picture_glyphs(
    image: Image.Image, pixels: PictureViews, mode: Mode | None, chars: str, boxes: np.ndarray
) -> PictureViews:
    """The glyph targets of a picture's views: one for the overview, one for every tile."""
    size = (image.height, image.width)
    view = (pixels.overview.size(0), pixels.overview.size(1))
    in_view = boxes_in_view(boxes, size, view, stretch=mode is not None and mode.stretch)
    overview = torch.from_numpy(glyph_targets(chars, in_view, view))
    if pixels.tiles is None:
        return PictureViews(overview)
    (R, K), (h, w) = pixels.grid, pixels.tiles.shape[2:4]
    in_mosaic = boxes_in_view(boxes, size, (R * h, K * w), stretch=True)
    mosaic = torch.from_numpy(glyph_targets(chars, in_mosaic, (R * h, K * w)))
    tiles = mosaic.view(R, h // PATCH, K, w // PATCH, -1).transpose(1, 2).contiguous()
    return PictureViews(overview, tiles)


def boxes_in_view(
    boxes: np.ndarray, size: tuple[int, int], view: tuple[int, int], *, stretch: bool = False
) -> np.ndarray:
    """Character boxes of a picture of `size` after the resize and padding of `fit_image`."""
    if size == view:
        return boxes
    height, width = view if stretch else contained_size(size, view)
    scale = np.array([width / size[1], height / size[0]] * 2, dtype=np.float32)
    left, top = padding_before(width, view[1]), padding_before(height, view[0])
    offset = np.array([left, top] * 2, dtype=np.float32)
    return boxes * scale + offset
