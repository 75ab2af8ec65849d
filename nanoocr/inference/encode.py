"""Pictures through the encoder, a bounded number of pixels at a time, with drafts of what they say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nanoocr.image_process import PictureViews
from nanoocr.inference.draft import draft_texts
from nanoocr.model.glyph_heads import PatchHead
from nanoocr.model.vlm import VLM

# Pixels per pass of the encoder, which limits its memory whatever the batch is.
ENCODE_PIXELS = 4 * 1024 * 1024
# The same on a CPU, whose caches hold what some 16 strips need between two layers: 64 strips of 768 pixels
# took 16.4 microseconds of the processor for each column of pixels, 16 took 14.1. It saves memory as well.
CPU_ENCODE_PIXELS = 768 * 1024


@torch.inference_mode()
def encode_pictures(model: VLM, pictures: Sequence[PictureViews]) -> Tensor | None:
    """Vision tokens of all pictures in order, (sum of N_i, C), some pixels at a time."""
    chunks = portions(pictures, pixels_at_once(model))
    return torch.cat([model.encode(chunk) for chunk in chunks]) if chunks else None


@torch.inference_mode()
def encode_and_draft(
    model: VLM, pictures: Sequence[PictureViews], head: PatchHead
) -> tuple[Tensor | None, list[str]]:
    """As `encode_pictures`, and a draft of each picture's text, "" for those of several views."""
    parts, texts = [], []
    for chunk in portions(pictures, pixels_at_once(model)):
        vision, groups = model.encode_with_features(chunk)
        parts.append(vision)
        of_views: dict[int, str] = {}
        for indices, features in groups:
            # Views come back in groups of one size, not in the order of the pictures.
            of_views.update(zip(indices, draft_texts(head.name_patches(features))))
        first = 0
        for picture in chunk:
            # A tile holds parts of lines, so drafts of tiles do not add up to the text of a picture.
            views = len(picture.flat())
            texts.append(of_views[first] if views == 1 else "")
            first += views
    return (torch.cat(parts) if parts else None), texts


def pixels_at_once(model: VLM) -> int:
    """How many pixels go through the encoder together, where the model lies."""
    return CPU_ENCODE_PIXELS if model.device.type == "cpu" else ENCODE_PIXELS


def portions(pictures: Sequence[PictureViews], most: int = ENCODE_PIXELS) -> list[list[PictureViews]]:
    """The pictures in order, cut into parts of `most` pixels; a larger picture is a part of its own."""
    chunks: list[list[PictureViews]] = []
    pixels = 0
    for picture in pictures:
        # A pixel has three values.
        size = sum(view.numel() // 3 for view in picture.flat())
        # The first picture opens a part whatever its size, so that none is too large.
        if not chunks or pixels + size > most:
            chunks, pixels = [*chunks, []], 0
        chunks[-1].append(picture)
        pixels += size
    return chunks
