"""Pictures become views: fitting, padding, normalising, choosing a view, and counting tokens."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from nanoocr.errors import UsageError
from nanoocr.image_process import (
    choose_view,
    contained_size,
    count_vision_tokens,
    expand_image_tokens,
    normalise,
    process_image,
    to_pixels,
)
from tests.small_pictures import noise


def test_a_picture_of_the_right_size_passes_untouched():
    image = noise(64, 128)
    view = process_image(image, (64, 128))
    assert view.shape == (3, 64, 128)
    assert view.dtype == torch.float32
    expected = (torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 - 0.5) / 0.5
    torch.testing.assert_close(view, expected, atol=1e-6, rtol=0)
    assert torch.equal(to_pixels(view), torch.from_numpy(np.array(image)))


@pytest.mark.parametrize("image_size", [(100, 100), (37, 210), (301, 57), (640, 641), (3, 300), (63, 127)])
@pytest.mark.parametrize("size", [(128, 128), (128, 256), (192, 64)])
def test_contain_and_pad_as_the_released_model(image_size, size):
    image = noise(*image_size)
    expected = ImageOps.pad(image, size[::-1], method=Image.Resampling.BICUBIC, color=(127, 127, 127))
    assert np.array_equal(to_pixels(process_image(image, size)).numpy(), np.asarray(expected))


def test_stretch_fills_the_view():
    image = noise(30, 200)
    expected = image.resize((128, 64), Image.Resampling.BICUBIC)
    view = process_image(image, (64, 128), stretch=True)
    assert np.array_equal(to_pixels(view).numpy(), np.asarray(expected))


def test_padding_is_grey_127_and_centred():
    view = process_image(Image.new("RGB", (100, 50), "white"), (128, 128))
    assert view[:, :32].unique().item() == pytest.approx(-0.0039, abs=1e-4)
    assert view[:, 96:].unique().item() == pytest.approx(-0.0039, abs=1e-4)
    assert torch.equal(view[:, 32:96], torch.ones(3, 64, 128))


@pytest.mark.parametrize("image_size", [(1, 20_000), (20_000, 1), (1, 1)])
def test_extreme_ratios_keep_at_least_one_pixel(image_size):
    view = process_image(Image.new("RGB", image_size[::-1]), (64, 64))
    assert (view == -1).any()
    assert min(contained_size(image_size, (64, 64))) >= 1


def test_process_image_takes_any_mode():
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    assert torch.equal(process_image(image, (64, 64)), torch.ones(3, 64, 64))


def test_process_image_refuses_other_sides():
    with pytest.raises(UsageError, match="100 x 64"):
        process_image(noise(8, 8), (100, 64))


def test_normalise_maps_all_bytes_into_the_range_and_back():
    pixels = torch.arange(256, dtype=torch.uint8)[None, None, :, None].expand(2, 1, 256, 3)
    views = normalise(pixels)
    assert views.shape == (2, 3, 1, 256)
    assert views.is_contiguous()
    assert (views.min().item(), views.max().item()) == (-1.0, 1.0)
    assert torch.equal(to_pixels(views[1]), pixels[1])


def test_a_batch_is_bit_equal_to_single_pictures():
    images = [noise(64, 128, seed) for seed in range(3)]
    batch = normalise(torch.from_numpy(np.stack([np.array(image) for image in images])))
    assert torch.equal(batch, torch.stack([process_image(image, (64, 128)) for image in images]))


@pytest.mark.parametrize("bad", [torch.zeros(1, 4, 4, 3), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)])
def test_normalise_refuses_other_layouts(bad):
    with pytest.raises(UsageError, match="uint8"):
        normalise(bad)


def test_choose_view_wastes_least():
    views = [(128, 256), (256, 128), (256, 256)]
    assert choose_view((100, 200), views) == (128, 256)
    assert choose_view((1500, 1240), views) == (256, 256)
    assert choose_view((200, 90), views) == (256, 128)
    assert choose_view((50, 50), views) == (256, 256)


def test_choose_view_ties_go_to_the_smallest_that_need_not_shrink_the_picture():
    for views in ([(512, 512), (256, 256)], [(256, 256), (512, 512)]):
        assert choose_view((200, 256), views) == (256, 256)
        assert choose_view((333, 333), views) == (512, 512)
        assert choose_view((257, 100), views) == (512, 512)
        assert choose_view((2000, 2000), views) == (512, 512)  # none is large enough: the largest


def test_choose_view_without_views():
    with pytest.raises(UsageError, match="no view"):
        choose_view((10, 10), [])


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        ((512, 512), 73),
        ((640, 640), 111),
        ((1024, 1024), 273),
        ((1280, 1280), 421),
        ((128, 256), 11),
        ((256, 128), 13),
        ((64, 64), 3),
    ],
)
def test_count_vision_tokens(size, tokens):
    assert count_vision_tokens(size) == tokens


@pytest.mark.parametrize("size", [(0, 64), (64, -64), (65, 64), (64, 32)])
def test_count_vision_tokens_refuses_other_sides(size):
    with pytest.raises(UsageError, match=f"{size[0]} x {size[1]}"):
        count_vision_tokens(size)


def test_expand_image_tokens():
    assert expand_image_tokens([1, 9, 2, 9], 9, [3, 1]) == [1, 9, 9, 9, 2, 9]
    assert expand_image_tokens([1, 2], 9, []) == [1, 2]


@pytest.mark.parametrize("counts", [[], [2], [2, 2, 2]])
def test_expand_image_tokens_mismatch_names_both_numbers(counts):
    with pytest.raises(UsageError, match=rf"2 .*placeholders for {len(counts)} pictures"):
        expand_image_tokens([9, 9], 9, counts)


def test_expand_image_tokens_refuses_empty_blocks():
    with pytest.raises(UsageError, match="at least one"):
        expand_image_tokens([9], 9, [0])
