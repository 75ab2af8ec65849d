"""One row on its way to a batch. It is planned first (ids, lengths) and fitted later (pixels, glyph targets).

Planning needs only the size of a picture, not its pixels. So many rows can wait and be packed by length, and
only the rows that enter a batch are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from nanoocr.bpe import Tokenizer
from nanoocr.config import PATCH
from nanoocr.data.glyphs import glyph_targets
from nanoocr.data.rows import NO_BOXES, BadRowError, Row
from nanoocr.errors import PictureError, UsageError
from nanoocr.image_process import (
    MODES,
    Mode,
    PictureViews,
    contained_size,
    count_tokens_of_size,
    count_vision_tokens,
    fit_picture,
    padding_before,
)
from nanoocr.pictures import upright_size
from nanoocr.tokenizer import render_conversation


class Plan(NamedTuple):
    """A tokenised row whose pictures are still encoded."""

    row: Row
    ids: list[int]
    mask: list[int]  # 1 where the token is supervised
    views: Sequence[tuple[int, int]]  # (height, width) that the model offers, where `mode` is None
    mode: Mode | None  # the resolution mode; it takes precedence over `views`
    shrunk: bool = False  # True where pictures are seen in less detail than asked for, so that the row fits

    @property
    def length(self) -> int:
        """How many positions the row takes. The last token is only a target, so it takes none."""
        return len(self.ids) - 1


class Example(NamedTuple):
    """One row, ready to be batched."""

    ids: list[int]
    mask: list[int]
    pixels: tuple[PictureViews, ...]  # uint8, channels last
    glyphs: tuple[PictureViews, ...]  # targets for the same views: uint8 classes (H/16, W/16, slots)


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
        TooLongError: the conversation has more than `max_length` tokens. Nothing is cut; the error names the
            row.
        BadRowError: a picture cannot be read.
    """
    return fit(plan(row, tokenizer, views, max_length, mode))


def plan(
    row: Row,
    tokenizer: Tokenizer,
    views: Sequence[tuple[int, int]],
    max_length: int,
    mode: Mode | None = None,
    *,
    shrink: bool = False,
) -> Plan:
    """The first half of `prepare`: everything but the pixels. Pictures come before the first question.

    With `shrink`, the pictures of a row that is too long are seen in the next smaller mode or view until the
    row fits. The decision depends only on the picture sizes, which the file headers give.
    """
    try:
        sizes = [upright_size(picture, name=row.picture_name(i)) for i, picture in enumerate(row.pictures)]
    except PictureError as error:
        raise BadRowError(str(error)) from error
    counts = [count_tokens_of_size(size, views, mode) for size in sizes]
    ids, mask = tokenise(row, tokenizer, counts)
    if len(ids) <= max_length:
        return Plan(row, ids, mask, views, mode)
    room = max_length - (len(ids) - sum(counts))  # what is left for the pictures
    for fewer, smaller in less_detail(sizes, views, mode) if shrink else ():
        counts = [count_tokens_of_size(size, fewer, smaller) for size in sizes]
        if sum(counts) <= room:
            return Plan(row, *tokenise(row, tokenizer, counts), fewer, smaller, shrunk=True)
    raise TooLongError(f"{row.id}: {len(ids)} tokens, max_length is {max_length}")


def tokenise(row: Row, tokenizer: Tokenizer, counts: Sequence[int]) -> tuple[list[int], list[int]]:
    """(ids, mask) of a row whose pictures have `counts` vision tokens."""
    messages: list[dict[str, object]] = []
    for turn in row.turns:
        # A part of type "text" is taken literally, even if it spells a special token.
        content = [{"type": "text", "text": turn.user}]
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": turn.assistant}]
    messages[0]["content"] = [*({"type": "image"} for _ in counts), *messages[0]["content"]]  # type: ignore[misc]
    return render_conversation({"messages": messages}, tokenizer, image_token_counts=counts)


def less_detail(
    sizes: Sequence[tuple[int, int]], views: Sequence[tuple[int, int]], mode: Mode | None
) -> Iterator[tuple[Sequence[tuple[int, int]], Mode | None]]:
    """Yield (views, mode) for pictures of `sizes` (height, width), each with fewer vision tokens than before.

    With a mode these are the modes whose whole view and tiles are no larger: gundam -> base -> small -> tiny.
    Without one, they are the views that cost less than the most expensive view that a picture took.
    """
    if mode is not None:
        lower = [m for m in MODES.values() if m.side <= mode.side and m.tile <= mode.tile and m != mode]
        yield from ((views, smaller) for smaller in reversed(lower))
        return
    while sizes and views:
        dearest = max(count_tokens_of_size(size, views) for size in sizes)
        views = [view for view in views if count_vision_tokens(view) < dearest]
        if views:
            yield views, None


def fit(planned: Plan) -> Example:
    """The second half of `prepare`: decode the pictures and fit them.

    Raises:
        BadRowError: a picture whose header was readable cannot be decoded.
    """
    row, mode = planned.row, planned.mode
    try:
        images = row.images()
    except PictureError as error:
        raise BadRowError(str(error)) from error
    pixels = tuple(fit_picture(image, planned.views, mode) for image in images)
    # Character boxes exist for the first picture only.
    known = [(row.chars, row.boxes)] + [("", NO_BOXES)] * len(images)
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
