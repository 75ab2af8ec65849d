"""Resolution modes: counts, tiling, the order of the tokens, through training, engine and command line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nanoocr import Reader, cli
from nanoocr.data.batch import collate
from nanoocr.data.example import prepare
from nanoocr.data.glyphs import glyph_targets
from nanoocr.data.loader import DataPlan, multimodal_data_generator
from nanoocr.data.source import rows_source
from nanoocr.errors import PictureError, UsageError
from nanoocr.image_process import (
    MODES,
    Mode,
    PictureViews,
    count_picture_tokens,
    fit_image,
    fit_picture,
    mode,
    normalised,
    tile_grid,
    to_pixels,
)
from nanoocr.inference.engine import Engine, Request
from nanoocr.model.folder import save_model
from nanoocr.train.config import TrainConfig
from nanoocr.train.distributed import World
from nanoocr.train.recipes import recipe
from nanoocr.train.run import Run
from nanoocr.train.state import build_state
from nanoocr.train.step import Totals, compute_losses

A4 = (1754, 1240)  # height, width at 150 dpi
TINY_GUNDAM = Mode(128, tile=64)  # Gundam for the tiny test model


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (size[0] // 16 + 2, size[1] // 16 + 2, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC)


def picture_views(image: Image.Image, views: tuple[tuple[int, int], ...], mode: Mode | None = None):
    return normalised(fit_picture(image, views, mode))


# ---------------------------------------------------------------------------------------------------------
# sizes and counts


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("tiny", 73),
        ("small", 111),
        ("base", 273),
        ("large", 421),
        ("gundam", 903),
        ("gundam-m", 421 + 48 * 33),
    ],
)
def test_tokens_of_an_a4_page(name, tokens):
    assert count_picture_tokens(fit_picture(Image.new("L", A4[::-1]), (), mode(name))) == tokens


@pytest.mark.parametrize(
    ("size", "grid"),  # (height, width), (rows, columns): measured with the released code
    [
        (A4, (3, 2)),
        ((1024, 1024), (2, 2)),
        ((641, 641), (2, 2)),
        ((2000, 800), (3, 1)),
        ((1000, 3000), (1, 3)),
        ((900, 1500), (2, 3)),
        ((820, 480), (3, 2)),
        ((640, 640), (0, 0)),
        ((5000, 1), (9, 1)),
        ((1, 5000), (1, 9)),
    ],
)
def test_grid_of_tiles(size, grid):
    assert tile_grid(size, MODES["gundam"]) == grid


def test_untiled_modes_have_no_tiles():
    assert {tile_grid(A4, MODES[name]) for name in ("tiny", "small", "base", "large")} == {(0, 0)}


def test_unknown_mode_is_named():
    with pytest.raises(UsageError, match=r"'huge'.*tiny, small, base, large, gundam, gundam-m"):
        mode("huge")


@pytest.mark.parametrize(
    ("name", "stretch"), [("tiny", True), ("small", True), ("base", False), ("large", False)]
)
def test_small_squares_squash_and_large_ones_letterbox(name, stretch):
    image = picture((300, 200))
    views = fit_picture(image, (), mode(name))
    side = MODES[name].side
    expected = fit_image(image, (side, side), stretch=stretch)
    assert torch.equal(views.overview, torch.from_numpy(np.array(expected)))
    corner_is_grey = bool((views.overview[:, 0] == 127).all())
    assert corner_is_grey is not stretch


def test_the_mosaic_of_the_tiles_is_the_stretched_picture():
    image = picture((300, 500))
    views = fit_picture(image, (), Mode(1024, tile=128))
    R, K = views.grid
    mosaic = views.tiles.transpose(1, 2).reshape(R * 128, K * 128, 3)
    expected = image.resize((K * 128, R * 128), Image.Resampling.BICUBIC)
    assert torch.equal(mosaic, torch.from_numpy(np.array(expected)))


@pytest.mark.parametrize("size", [A4, (700, 641), (641, 3000), (900, 1500), (2000, 800)])
def test_pixels_equal_transformers_bit_for_bit(size):
    """As pixels; the normalised floats round in another order.

    Other sizes differ by one row: it cuts the contained size where Pillow, as in the released code, rounds.
    """
    transformers = pytest.importorskip("transformers")
    reference = transformers.DeepseekOcr2ImageProcessorPil(
        tile_size=640, min_patches=2, max_patches=9, size={"height": 1024, "width": 1024}
    )
    image = picture(size, seed=size[0])
    out = reference(images=[image], return_tensors="pt")
    ours = picture_views(image, (), MODES["gundam"])
    theirs = [*out["pixel_values_local"].reshape(-1, 3, 640, 640), out["pixel_values"][0]]
    for mine, other in zip(ours.flat(), theirs, strict=True):
        assert torch.equal(to_pixels(mine), to_pixels(other))
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=0)


# ---------------------------------------------------------------------------------------------------------
# tokens


def test_tokens_are_mosaic_then_overview_then_separator(tiny_model):
    """Every vector is found where the layout says: row by row over the tiles, newline behind each row."""
    encoder = tiny_model.encoder
    views = picture_views(picture((130, 190)), (), TINY_GUNDAM)
    (R, K), D = views.grid, encoder.image_newline.numel()
    assert R * K > 1
    tiles = encoder(views.tiles.flatten(0, 1)).projected.view(R, K, D)  # 64 pixels: one token per tile
    overview = encoder(views.overview[None]).projected[0]
    expected = []
    for row in range(R):
        expected += [*tiles[row], encoder.image_newline]
    for row in overview:
        expected += [*row, encoder.image_newline]
    expected.append(encoder.view_seperator)
    found = tiny_model.encode([views])
    assert len(found) == count_picture_tokens(views)
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_pictures_of_several_modes_are_encoded_together(tiny_model):
    pictures = [
        picture_views(picture((100, 100), 1), ((64, 128),)),
        picture_views(picture((130, 190), 2), (), TINY_GUNDAM),
        picture_views(picture((60, 60), 3), (), TINY_GUNDAM),  # fits a tile: not tiled
        picture_views(picture((300, 80), 4), (), TINY_GUNDAM),
    ]
    assert [one.tiles is None for one in pictures] == [True, False, True, False]
    expected = torch.cat([tiny_model.encode([one]) for one in pictures])
    torch.testing.assert_close(tiny_model.encode(pictures), expected, atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------
# training


def rows_of_modes(make_row):
    return [make_row(i, size=size, chars="abc") for i, size in enumerate([(130, 190), (60, 60), (64, 300)])]


def test_modes_mix_in_one_batch_and_train(make_model, byte_tokenizer, make_row):
    """The grouped way of training against the plain forward of the model."""
    model = make_model()
    rows = rows_of_modes(make_row)
    examples = [
        prepare(rows[0], byte_tokenizer, (), 128, TINY_GUNDAM),
        prepare(rows[1], byte_tokenizer, ((64, 128),), 128),
        prepare(rows[2], byte_tokenizer, (), 128, TINY_GUNDAM),
    ]
    batch = collate(examples, 0)
    assert batch.num_pictures == 3 and batch.num_views == 3 + sum(r * k for r, k in batch.grids)
    state = build_state(Run(TrainConfig(), recipe("scratch", 1)), model)
    losses = compute_losses(state, batch, recipe("scratch", 1), Totals.of([batch], World()))
    views = [normalised(picture) for example in examples for picture in example.pixels]
    torch.testing.assert_close(losses["loss"], model(batch.ids, batch.targets, views).mean)
    losses["total"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.encoder.parameters())


def test_glyphs_of_tiles_are_those_of_the_stretched_picture(byte_tokenizer, make_row):
    row = rows_of_modes(make_row)[0]
    example = prepare(row, byte_tokenizer, (), 128, TINY_GUNDAM)
    R, K = example.pixels[0].grid
    scale = np.array([K * 64 / 190, R * 64 / 130] * 2, dtype=np.float32)
    expected = glyph_targets(row.chars, row.boxes * scale, (R * 64, K * 64))
    mosaic = example.glyphs[0].tiles.transpose(1, 2).reshape(R * 4, K * 4, -1)
    assert (expected > 0).sum() == 3
    assert torch.equal(mosaic, torch.from_numpy(expected))


def test_the_mode_of_a_row_is_drawn_by_weight_and_is_the_same_again(byte_tokenizer, make_row):
    data = DataPlan(
        source=rows_source(rows_of_modes(make_row), 0),
        tokenizer=byte_tokenizer,
        views=((64, 128),),
        batch_size=2,
        steps=4,
        seed=1,
        max_length=3000,
        modes=(("tiny", 3.0), ("small", 1.0)),
    )
    drawn = [data.mode_of(index) for index in range(200)]
    assert drawn == [data.mode_of(index) for index in range(200)]
    assert 120 < drawn.count(MODES["tiny"]) < 180
    sides = {
        group.pixels.shape[1]
        for (delivery,) in multimodal_data_generator(data)
        for group in delivery.batch.views
    }
    assert sides and sides <= {512, 640}
    assert replace(data, modes=()).mode_of(0) is None


# ---------------------------------------------------------------------------------------------------------
# engine and command line


def test_several_pictures_in_one_conversation(tiny_model, byte_tokenizer):
    """Greedy decoding with a tiled and a plain picture in one prompt equals the forward without a cache."""
    pictures = (
        picture_views(picture((130, 190), 2), (), TINY_GUNDAM),
        picture_views(picture((100, 100), 1), ((64, 128),)),
    )
    t = byte_tokenizer
    runs = [[t.image_id] * count_picture_tokens(one) for one in pictures]
    ids = [t.bos_id, t.user_start_id, *runs[0], *b"and", *runs[1], t.user_end_id, t.assistant_start_id]
    (completion,) = Engine(tiny_model, t).generate([Request(tuple(ids), pictures, max_tokens=6)])
    with torch.inference_mode():
        assert completion.ids
        for token in completion.ids:
            logits = tiny_model(torch.tensor([ids]), views=list(pictures))[0, -1]
            logits[[i for i in t.special_ids() if i not in (t.assistant_end_id, t.bos_id)]] = float("-inf")
            assert int(logits.argmax()) == token
            ids.append(token)


def test_a_picture_of_another_count_is_refused(tiny_model, byte_tokenizer):
    one = picture_views(picture((130, 190)), (), TINY_GUNDAM)
    t = byte_tokenizer
    ids = (t.bos_id, *[t.image_id] * (count_picture_tokens(one) - 1), t.assistant_start_id)
    wanted = count_picture_tokens(one)
    with pytest.raises(UsageError, match=f"{wanted - 1} .*but {wanted} vision tokens"):
        Engine(tiny_model, t).generate([Request(ids, (one,))])


def test_reader_and_command_line_take_a_mode(make_model, byte_tokenizer, tmp_path, capsys):
    save_model(tmp_path / "m", make_model(), byte_tokenizer)
    picture((130, 190)).save(tmp_path / "a.png")
    page = Reader(tmp_path / "m", mode="tiny").read(tmp_path / "a.png", max_tokens=2)
    assert page.tokens.vision == 73
    flags = ["read", str(tmp_path / "a.png"), f"--model={tmp_path / 'm'}", "--max_tokens=2"]
    assert cli.main([*flags, "--mode=tiny", "--json"]) == 0
    assert '"vision": 73' in capsys.readouterr().out
    assert cli.main([*flags, "--mode=huge"]) == 2
    assert "unknown mode 'huge'" in capsys.readouterr().err


def test_a_page_that_is_too_long_in_its_mode_is_an_error_of_that_page(
    make_model, byte_tokenizer, tmp_path, capsys
):
    """273 vision tokens and the prompt are more than the tiny model's sequence of 128."""
    save_model(tmp_path / "m", make_model(), byte_tokenizer)
    picture((130, 190)).save(tmp_path / "a.png")
    assert cli.main(["read", str(tmp_path / "a.png"), f"--model={tmp_path / 'm'}", "--mode=base"]) == 3
    err = capsys.readouterr().err
    assert "a.png" in err and "128" in err and len(err.strip().splitlines()) == 1
    reader = Reader(tmp_path / "m", mode="base")
    page = reader.read([tmp_path / "a.png"])[0]
    assert page.status == "error" and "--mode" in page.error
    with pytest.raises(PictureError, match="--mode") as caught:
        reader.read(tmp_path / "a.png")
    assert caught.value.kind == "too_large"


def test_a_bare_view_is_a_picture_without_tiles(tiny_model):
    view = picture_views(picture((60, 100)), ((64, 128),)).overview
    assert torch.equal(tiny_model.encode([view]), tiny_model.encode([PictureViews(view)]))
