"""One row on its way to a batch: its conversation, its views, and boxes that follow the picture."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nanoocr.data.example import TooLongError, boxes_in_view, fit, less_detail, plan, prepare
from nanoocr.data.glyphs import UNKNOWN, glyph_targets
from nanoocr.data.rows import BadRowError, Row, Turn
from nanoocr.errors import UsageError
from nanoocr.image_process import MODES, count_vision_tokens, process_image, to_pixels

VIEWS = ((64, 128), (128, 128))


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
        assert torch.equal(example.pixels[0].overview, to_pixels(process_image(row.image, view)))
        assert example.ids.count(byte_tokenizer.image_id) == count_vision_tokens(view)
        assert example.glyphs[0].overview.shape == (view[0] // 16, view[1] // 16, 2)


def test_glyphs_are_where_the_characters_are(byte_tokenizer, make_row):
    row = make_row(5, chars="abc")
    assert torch.equal(
        prepare(row, byte_tokenizer, VIEWS, 100).glyphs[0].overview,
        torch.from_numpy(glyph_targets("abc", row.boxes, (64, 128))),
    )
    assert (prepare(make_row(5), byte_tokenizer, VIEWS, 100).glyphs[0].overview == UNKNOWN).all()


def test_a_row_of_text_alone(byte_tokenizer, make_row):
    example = prepare(replace(make_row(1), pictures=()), byte_tokenizer, VIEWS, 100)
    assert example.pixels == () and example.glyphs == ()
    assert byte_tokenizer.image_id not in example.ids


def test_a_row_that_is_too_long_is_refused_and_never_cut(byte_tokenizer, make_row):
    row = make_row(1, answer="x" * 50)
    length = len(prepare(row, byte_tokenizer, VIEWS, 1000).ids)
    assert len(prepare(row, byte_tokenizer, VIEWS, length).ids) == length
    with pytest.raises(UsageError, match=f"{length} tokens.*{length - 1}"):
        prepare(row, byte_tokenizer, VIEWS, length - 1)


LADDER = {"gundam": 273 + 10 * 31 * 2, "base": 273, "small": 111, "tiny": 73}  # 2 x 3 tiles of 640


@pytest.mark.parametrize("name", LADDER)
def test_a_row_that_is_too_long_is_seen_in_the_next_smaller_mode(byte_tokenizer, name):
    """From Gundam down to what just fits; the pixels are those of that mode."""
    row = Row("r", (encoded((1000, 1400)),), (Turn("q", "a"),), "test")
    asked, room = MODES["gundam"], LADDER[name] + 7  # with the marks of the turn and two letters
    planned = plan(row, byte_tokenizer, VIEWS, room, asked, shrink=True)
    assert planned.mode == MODES[name] and planned.shrunk == (name != "gundam") and len(planned.ids) == room
    assert planned.ids.count(byte_tokenizer.image_id) == LADDER[name]
    (picture,) = fit(planned).pixels
    assert picture.overview.shape[0] == MODES[name].side and picture.grid == (
        (2, 3) if name == "gundam" else (0, 0)
    )
    if name == "tiny":
        with pytest.raises(TooLongError, match=f"{LADDER['gundam'] + 7} tokens"):
            plan(row, byte_tokenizer, VIEWS, room - 1, asked, shrink=True)


def test_no_mode_is_shrunk_into_a_larger_one():
    seen = {name: [m for _, m in less_detail([(900, 900)], (), mode)] for name, mode in MODES.items()}
    names = {mode: name for name, mode in MODES.items()}
    assert [names[m] for m in seen["gundam-m"]] == ["gundam", "large", "base", "small", "tiny"]
    assert [names[m] for m in seen["large"]] == ["base", "small", "tiny"] and seen["tiny"] == []


def test_without_a_mode_the_next_smaller_view_is_taken(byte_tokenizer, make_row):
    """Of a square picture (128 x 128: 7 tokens) and a wide one (64 x 128: 4) the square one pays first."""
    images = tuple(make_row(i, size=size).image for i, size in enumerate([(64, 128), (128, 128)]))
    row = Row("r", images, (Turn("q", "a"),), "test")
    length = len(plan(row, byte_tokenizer, VIEWS, 100).ids)
    planned = plan(row, byte_tokenizer, VIEWS, length - 1, shrink=True)
    assert len(planned.ids) == length - 3 and planned.shrunk
    assert [picture.overview.shape[:2] for picture in fit(planned).pixels] == [(64, 128), (64, 128)]
    with pytest.raises(TooLongError):
        plan(row, byte_tokenizer, VIEWS, length - 4, shrink=True)
    with pytest.raises(TooLongError):
        plan(replace(row, pictures=()), byte_tokenizer, VIEWS, 5, shrink=True)


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
# several pictures and turns; encoded pictures


def encoded(size: tuple[int, int], orientation: int = 1) -> bytes:
    image = Image.fromarray(np.random.default_rng(size[0]).integers(0, 256, (*size, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", exif=exif)
    return buffer.getvalue()


def test_pictures_stand_before_the_first_question_and_all_answers_are_supervised(byte_tokenizer, make_row):
    t = byte_tokenizer
    images = tuple(make_row(i, size=size).image for i, size in enumerate([(64, 128), (128, 128)]))
    turns = (Turn("a?", "A"), Turn("b?", "BB"))
    example = prepare(Row("r", images, turns, "test"), t, VIEWS, 200)
    pictures = [t.image_id] * (count_vision_tokens((64, 128)) + count_vision_tokens((128, 128)))
    first = [t.bos_id, t.user_start_id, *pictures, *b"a?", t.user_end_id, t.assistant_start_id]
    second = [t.user_start_id, *b"b?", t.user_end_id, t.assistant_start_id]
    assert example.ids == [*first, *b"A", t.assistant_end_id, *second, *b"BB", t.assistant_end_id]
    assert example.mask == [0] * len(first) + [1] * 2 + [0] * len(second) + [1] * 3
    assert [picture.overview.shape[:2] for picture in example.pixels] == list(VIEWS)


def test_characters_belong_to_the_first_picture(byte_tokenizer, make_row):
    row = make_row(0, chars="abc")
    example = prepare(replace(row, pictures=row.pictures * 2), byte_tokenizer, VIEWS, 200)
    assert (example.glyphs[0].overview != UNKNOWN).all() and (example.glyphs[1].overview == UNKNOWN).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", [None, MODES["gundam"], MODES["tiny"]])
def test_a_plan_counts_what_decoding_gives(byte_tokenizer, orientation, mode):
    """The count comes from the header, the pixels from the decoded, upright picture."""
    row = Row("r", (encoded((1400, 700), orientation),), (Turn("q", "a"),), "test")
    planned = plan(row, byte_tokenizer, VIEWS, 10_000, mode)
    tokens = planned.ids.count(byte_tokenizer.image_id)
    example = prepare(row, byte_tokenizer, VIEWS, 10_000, mode)
    (picture,) = example.pixels
    R, K = picture.grid
    expected = count_vision_tokens(tuple(picture.overview.shape[:2])) + R * 10 * (K * 10 + 1) * (R > 0)
    assert tokens == expected and (mode is not MODES["gundam"] or picture.grid in {(2, 1), (1, 2)})


def test_damage_is_named_whether_in_header_or_behind(byte_tokenizer):
    whole = encoded((64, 128))
    for content in (b"nothing", whole[:200]):
        row = Row("file: row 3", (whole, content), (Turn("q", "a"),), "test")
        with pytest.raises(BadRowError, match="file: row 3, picture 1"):
            prepare(row, byte_tokenizer, VIEWS, 1000)
