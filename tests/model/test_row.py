"""Pictures of one height side by side give what each of them gives alone."""

from dataclasses import replace

import pytest
import torch

from nanoocr.model.deepencoder import DeepEncoder
from nanoocr.model.row import apart, fits_in_row, places


@pytest.fixture
def encoder(make_config, randomise):
    config = make_config()
    encoder = DeepEncoder(replace(config, sam=replace(config.sam, window=4)))  # as wide as a vision token
    randomise(encoder)
    return encoder


def views_of(widths, height=64):
    return [torch.rand(3, height, width) * 2 - 1 for width in widths]


@pytest.mark.parametrize("height", [64, 128])
def test_a_row_is_what_its_pictures_are_alone(encoder, height):
    sizes = [(height, width) for width in (128, 64, 192)]
    assert fits_in_row(encoder.sam_model, sizes), "the model of this test must be one whose strips fit"
    views = views_of([128, 64, 192, 64, 128, 64], height)
    with torch.inference_mode():
        together = encoder.encode_groups(views)
    alone = encoder.encode_groups(views)  # with gradients each width goes by itself
    assert [indices for indices, _ in together] == [indices for indices, _ in alone]
    for (_, row), (_, single) in zip(together, alone, strict=True):
        for name in row._fields:
            torch.testing.assert_close(
                getattr(row, name), getattr(single, name).detach(), rtol=1e-4, atol=1e-4
            )


def test_other_heights_and_other_windows_do_not_lie_in_a_row(encoder):
    assert not fits_in_row(encoder.sam_model, [(64, 64), (128, 64)])
    encoder.sam_model.blocks[0].attn.window = 3
    assert not fits_in_row(encoder.sam_model, [(64, 64), (64, 128)])


def test_blanks_stand_between_pictures_and_go_again():
    row = torch.arange(1.0, 7.0).view(1, 1, 1, 6)
    spread = apart(row, [2, 4], 4)
    assert spread[0, 0, 0, :14].tolist() == [1, 2, 0, 0, 0, 0, 3, 4, 5, 6, 0, 0, 0, 0]
    assert not spread[..., 14:].any()
    assert spread[..., places([2, 4], 4)].equal(row)
