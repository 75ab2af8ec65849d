"""Batches: what a row becomes, determinism by (seed, step), boxes that follow the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nanoocr.data.loader import (
    POOL,
    Batch,
    BatchMaker,
    SynthMix,
    boxes_in_view,
    collate,
    draw_from_rows,
    parse_curriculum,
    parse_mix,
    prepare,
    rows_source,
    training_batches,
)
from nanoocr.data.synth import KINDS, find_fonts
from nanoocr.errors import UsageError
from nanoocr.image_process import count_vision_tokens, process_image, to_pixels
from nanoocr.model.vlm import IGNORE
from nanoocr.train.glyph import UNKNOWN, glyph_targets

VIEWS = ((64, 128), (128, 128))


# ---------------------------------------------------------------------------------------------------------
# one row


def test_a_row_becomes_a_conversation(byte_tokenizer, make_row):
    t = byte_tokenizer
    example = prepare(make_row(3, prompt="Hi.", answer="yes"), t, VIEWS, 100)
    prompt = [t.bos_id, t.user_start_id, *[t.image_id] * 4, *b"Hi.", t.user_end_id, t.assistant_start_id]
    answer = [*b"yes", t.assistant_end_id]
    assert example.ids == [*prompt, *answer]
    assert example.mask == [0] * len(prompt) + [1] * len(answer)


def test_a_row_takes_the_view_that_fits_it(byte_tokenizer, make_row):
    wide, square = (make_row(1, size=size) for size in ((30, 70), (90, 80)))
    for row, view in ((wide, (64, 128)), (square, (128, 128))):
        example = prepare(row, byte_tokenizer, VIEWS, 100)
        assert torch.equal(example.pixels.overview, to_pixels(process_image(row.image, view)))
        assert example.ids.count(byte_tokenizer.image_id) == count_vision_tokens(view)
        assert example.glyphs.overview.shape == (view[0] // 16, view[1] // 16, 2)


def test_glyphs_are_where_the_characters_are(byte_tokenizer, make_row):
    row = make_row(5, chars="abc")
    assert torch.equal(
        prepare(row, byte_tokenizer, VIEWS, 100).glyphs.overview,
        torch.from_numpy(glyph_targets("abc", row.boxes, (64, 128))),
    )
    assert (prepare(make_row(5), byte_tokenizer, VIEWS, 100).glyphs.overview == UNKNOWN).all()


def test_a_row_of_text_alone(byte_tokenizer, make_row):
    example = prepare(replace(make_row(1), pictures=()), byte_tokenizer, VIEWS, 100)
    assert example.pixels is None and example.glyphs is None
    assert byte_tokenizer.image_id not in example.ids


def test_a_row_that_is_too_long_is_refused_and_never_cut(byte_tokenizer, make_row):
    row = make_row(1, answer="x" * 50)
    length = len(prepare(row, byte_tokenizer, VIEWS, 1000).ids)
    assert len(prepare(row, byte_tokenizer, VIEWS, length).ids) == length
    with pytest.raises(UsageError, match=f"{length} tokens.*{length - 1}"):
        prepare(row, byte_tokenizer, VIEWS, length - 1)


def test_image_token_written_in_the_text_stays_text(byte_tokenizer, make_row):
    row = make_row(1, prompt="<|image|> <image>", answer="<|assistant_end|>")
    example = prepare(row, byte_tokenizer, VIEWS, 200)
    assert example.ids.count(byte_tokenizer.image_id) == 4
    assert example.ids.count(byte_tokenizer.assistant_end_id) == 1


# ---------------------------------------------------------------------------------------------------------
# boxes


DOTS = [(10, 9), (61, 40), (30, 20)]  # x, y in a picture of 70 x 50


@pytest.mark.parametrize(
    ("size", "view"),
    [
        ((50, 70), (128, 128)),
        ((50, 70), (64, 128)),
        ((50, 70), (192, 64)),
        ((64, 128), (64, 128)),
        ((53, 71), (128, 192)),
        ((400, 700), (128, 128)),
    ],
)
@pytest.mark.parametrize("dot", [(0.15, 0.2), (0.85, 0.8), (0.4, 0.5)])
def test_boxes_follow_the_picture(size, view, dot):
    """Draw a black dot, fit the picture into the view, and find the dot where its box says."""
    height, width = size
    side = max(3, round(width / 20))
    x, y = int(width * dot[0]), int(height * dot[1])
    white = np.full((height, width, 3), 255, dtype=np.uint8)
    dotted = white.copy()
    dotted[y : y + side, x : x + side] = 0
    fitted = [to_pixels(process_image(Image.fromarray(array), view)) for array in (white, dotted)]
    ink = (fitted[0].float() - fitted[1].float()).mean(-1).numpy() / 255  # the border cancels
    ys, xs = np.mgrid[: view[0], : view[1]] + 0.5
    centre = np.array([(ink * xs).sum(), (ink * ys).sum()]) / ink.sum()
    box = np.array([[x, y, x + side, y + side]], dtype=np.float32)
    x0, y0, x1, y1 = boxes_in_view(box, size, view)[0]
    assert np.abs(centre - [(x0 + x1) / 2, (y0 + y1) / 2]).max() < 0.3
    assert ink.sum() == pytest.approx((x1 - x0) * (y1 - y0), rel=0.2)


def test_boxes_have_the_offset_of_the_padding():
    """A free height of 3 pixels: Pillow's paste and ours must round the half alike."""
    image = Image.new("RGB", (128, 61), "white")
    pixels = to_pixels(process_image(image, (64, 128))).numpy()
    first = int(np.argmax(pixels[:, 0, 0] == 255))
    assert boxes_in_view(np.zeros((1, 4), np.float32), (61, 128), (64, 128))[0, 1] == first


# ---------------------------------------------------------------------------------------------------------
# batches


def test_targets_are_shifted_and_masked_and_padding_is_silent(byte_tokenizer, make_row):
    rows = [make_row(i, answer="abc" * (i + 1)) for i in range(3)]
    examples = [prepare(row, byte_tokenizer, VIEWS, 100) for row in rows]
    batch = collate(examples, pad_id=7)
    length = max(len(example.ids) for example in examples) - 1
    assert batch.ids.shape == batch.targets.shape == (3, length)
    for i, example in enumerate(examples):
        n = len(example.ids) - 1
        assert batch.ids[i, :n].tolist() == example.ids[:-1]
        assert (batch.ids[i, n:] == 7).all() and (batch.targets[i, n:] == IGNORE).all()
        expected = [token if on else IGNORE for token, on in zip(example.ids[1:], example.mask[1:])]
        assert batch.targets[i, :n].tolist() == expected
    assert batch.num_supervised == sum(len(row.answer) + 1 for row in rows)
    assert not (batch.targets == byte_tokenizer.image_id).any()


def test_pictures_are_grouped_by_size_and_keep_their_places(byte_tokenizer, make_row):
    sizes = [(64, 128), None, (128, 128), (64, 128), (128, 128)]
    rows = [make_row(i, size=size or (64, 128)) for i, size in enumerate(sizes)]
    rows[1] = replace(rows[1], pictures=())
    examples = [prepare(row, byte_tokenizer, VIEWS, 200) for row in rows]
    batch = collate(examples, 7)
    assert [group.indices for group in batch.views] == [(0, 2), (1, 3)]  # counted without the text row
    assert batch.num_pictures == 4
    in_order = [example for example in examples if example.pixels is not None]
    for group in batch.views:
        for place, pixels, glyphs in zip(group.indices, group.pixels, group.glyphs):
            assert torch.equal(pixels, in_order[place].pixels.overview)
            assert torch.equal(glyphs, in_order[place].glyphs.overview)


def test_a_batch_of_text_alone_has_no_pictures(byte_tokenizer, make_row):
    row = replace(make_row(0), pictures=())
    batch = collate([prepare(row, byte_tokenizer, VIEWS, 100)], 7)
    assert batch.views == () and batch.num_pictures == 0


# ---------------------------------------------------------------------------------------------------------
# the loader


@pytest.fixture
def maker(byte_tokenizer, make_row) -> BatchMaker:
    rows = [make_row(i, answer="a" * (1 + 7 * i % 11), size=VIEWS[i % 2], chars="x") for i in range(7)]
    return BatchMaker(
        source=rows_source(rows, seed=5),
        tokenizer=byte_tokenizer,
        views=VIEWS,
        batch_size=3,
        steps=10,
        seed=5,
        max_length=100,
    )


def same(a: Batch, b: Batch) -> bool:
    def tensors(batch: Batch) -> list[torch.Tensor]:
        return [
            batch.ids,
            batch.targets,
            *(t for group in batch.views for t in (group.pixels, group.glyphs)),
        ]

    pairs = list(zip(tensors(a), tensors(b), strict=True))
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in pairs)


def batches(maker: BatchMaker, start: int = 0, workers: int = 0) -> list[Batch]:
    return list(training_batches(maker, start=start, workers=workers))


def test_the_same_seed_gives_the_same_batches(maker):
    first, second = batches(maker), batches(maker)
    assert len(first) == 10
    assert all(same(a, b) for a, b in zip(first, second))
    other = batches(replace(maker, source=rows_source(maker.source.keywords["rows"], seed=6), seed=6))
    assert not all(a.ids.shape == b.ids.shape and same(a, b) for a, b in zip(first, other))


@pytest.mark.parametrize("start", [1, 3, 4, 5, 9, 10])
def test_starting_later_continues_exactly(maker, start):
    whole, rest = batches(maker), batches(maker, start=start)
    assert len(rest) == 10 - start
    assert all(same(a, b) for a, b in zip(whole[start:], rest))


def test_more_steps_do_not_change_the_earlier_batches(maker):
    """Of a source that does not look at the progress; so a run may be prolonged."""
    longer = batches(replace(maker, steps=17))
    assert len(longer) == 17 and all(same(a, b) for a, b in zip(batches(maker), longer))


def test_worker_processes_give_the_same_batches_in_order(maker):
    assert all(same(a, b) for a, b in zip(batches(maker, start=3), batches(maker, start=3, workers=2)))


def test_every_row_comes_once_per_epoch(make_row):
    rows = [make_row(i) for i in range(5)]
    drawn = [draw_from_rows(index, 0.0, rows=rows, seed=1).id for index in range(15)]
    for epoch in range(3):
        assert sorted(drawn[epoch * 5 : epoch * 5 + 5]) == sorted(row.id for row in rows)
    assert drawn[:5] != drawn[5:10] or drawn[5:10] != drawn[10:15]


def test_no_row_of_a_pool_is_lost_or_doubled(maker, make_row):
    rows = [make_row(i, answer=f"{i:03d}" + "x" * (i % 5)) for i in range(POOL * 3)]
    maker = replace(maker, source=rows_source(rows, 0), steps=POOL)
    seen = []
    for batch in batches(maker):
        for targets in batch.targets:
            seen.append(bytes(targets[targets != IGNORE][:3].tolist()).decode())
    assert sorted(seen) == [f"{i:03d}" for i in range(POOL * 3)]


def test_rows_of_similar_length_share_a_batch(maker, make_row):
    rows = [make_row(i, answer="x" * (1 + i)) for i in range(POOL * 3)]
    maker = replace(maker, source=rows_source(rows, 0), steps=POOL)
    spreads = [
        int((group := (batch.targets != IGNORE).sum(1)).max() - group.min()) for batch in batches(maker)
    ]
    assert spreads == [2] * POOL


@pytest.mark.parametrize("workers", [0, 1])
def test_a_row_that_does_not_fit_is_one_sentence(maker, workers):
    """Also out of a worker process: a user gets no traceback."""
    with pytest.raises(UsageError) as caught:
        batches(replace(maker, max_length=5), workers=workers)
    assert "max_length is 5" in str(caught.value) and "\n" not in str(caught.value)


def test_drawn_rows_that_do_not_fit_are_skipped_and_counted(maker, make_row):
    rows = [make_row(i, answer="x" * (40 if i % 3 == 0 else 4)) for i in range(9)]
    maker = replace(maker, source=rows_source(rows, 0), batch_size=9, pool=2, steps=4, skip_long=True)
    short = replace(maker, max_length=len(prepare(rows[0], maker.tokenizer, VIEWS, 100).ids) - 1)
    for first, second in (batches(short)[:2], batches(short)[2:]):
        assert (first.skipped, second.skipped) == (6, 0)
        assert len(first.ids) == len(second.ids) == 6
    assert all(batch.skipped == 0 and len(batch.ids) == 9 for batch in batches(maker))
    with pytest.raises(UsageError, match=r"none of 18 rows fits into 5 tokens.*--max_length"):
        batches(replace(maker, max_length=5))
    alone = replace(maker, batch_size=1, pool=4, max_length=short.max_length)  # some pools hold one that fits
    assert all(len(batch.ids) == 1 for batch in batches(alone))


# ---------------------------------------------------------------------------------------------------------
# synthetic rows


def synth(**options: object) -> SynthMix:
    return SynthMix(kinds={"card": 1.0}, fonts=find_fonts()[:3], seed=3, **options)


def test_synthetic_rows_depend_on_seed_and_index_alone():
    a, b, other = synth()(17, 0.0), synth()(17, 0.0), synth()(18, 0.0)
    assert np.array_equal(np.asarray(a.image), np.asarray(b.image)) and a.answer == b.answer
    assert a.answer != other.answer
    assert replace(synth(), seed=4)(17, 0.0).answer != a.answer


def lines(source: SynthMix, progress: float) -> set[int]:
    return {source(index, progress).answer.count("\n") + 1 for index in range(12)}


def test_curriculum_bounds_the_lines_of_a_card():
    source = synth(curriculum=((0.0, 1), (0.5, 2), (0.75, 4)))
    assert lines(source, 0.0) == lines(source, 0.49) == {1}
    assert lines(source, 0.5) == {1, 2}
    assert lines(source, 1.0) == {1, 2, 3, 4}


def test_a_curriculum_may_become_easier_again():
    source = synth(curriculum=((0.0, 3), (0.5, 1)))
    assert lines(source, 0.0) == {1, 2, 3}
    assert lines(source, 0.5) == {1}


def test_mix_and_text_ratio():
    source = replace(synth(text_ratio=0.5), kinds={"card": 1.0, "receipt": 3.0})
    rows = [source(index, 0.0) for index in range(80)]
    assert 45 <= sum(row.id.startswith("receipt") for row in rows) <= 75
    text = [row for row in rows if row.image is None]
    assert 25 <= len(text) <= 55
    assert all(row.answer in row.prompt and row.chars == "" for row in text)


def test_parse_mix():
    known = tuple(KINDS)
    assert parse_mix("card", known) == {"card": 1.0}
    assert parse_mix("card:0.8,scene:0.2", known) == {"card": 0.8, "scene": 0.2}


@pytest.mark.parametrize(
    "text", ["", "poem", "card:x", "card:0", "card:-1", "card:nan", "card:inf", "card,,", ":1", "card,card:2"]
)
def test_parse_mix_refuses(text):
    with pytest.raises(UsageError, match="--mix"):
        parse_mix(text, tuple(KINDS))


def test_parse_curriculum():
    assert parse_curriculum("0:3") == ((0.0, 3),)
    assert parse_curriculum("0:1,0.1:2,0.3:3") == ((0.0, 1), (0.1, 2), (0.3, 3))


@pytest.mark.parametrize(
    "text", ["", "3", "0:0", "0:5", "0.5:2", "0:1.5", "0:x", "0:1:2", "0:1,", "0:1,0:2", "0:1,0.5:2,0.4:3"]
)
def test_parse_curriculum_refuses(text):
    with pytest.raises(UsageError, match="--curriculum"):
        parse_curriculum(text)
