"""Synthetic documents: the truth is what is visible, and the same call always draws the same pixels."""

from __future__ import annotations

import contextlib
import io
import re
import string

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFont

from nanoocr.alphabet import CHARACTERS
from nanoocr.commandline import run
from nanoocr.data.glyphs import NOTHING
from nanoocr.data.synth import (
    ALL_KINDS,
    HELD_OUT_FAMILIES,
    KINDS,
    find_fonts,
    make_sample,
    to_row,
    write_parquet,
)
from nanoocr.data.synth import text as synth_text
from nanoocr.data.synth.__main__ import main
from nanoocr.data.synth.card import CARD_SIZE
from nanoocr.data.synth.colours import any_ground, brightness, ink_for
from nanoocr.data.synth.degrade import add_noise, through_jpeg
from nanoocr.data.synth.dice import Dice
from nanoocr.data.synth.fonts import draws_ascii
from nanoocr.data.synth.page import Page, face, render, turned_boxes
from nanoocr.errors import UsageError


@pytest.fixture(scope="module")
def fonts():
    return find_fonts()


def samples(kind, count, fonts, seed=11, **lines):
    return [make_sample(kind, seed, index, fonts=fonts, **lines) for index in range(count)]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_same_call_same_pixels(kind, fonts):
    first, again = (make_sample(kind, 3, 5, fonts=fonts) for _ in range(2))
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))
    assert (first.prompt, first.answer, first.font) == (again.prompt, again.answer, again.font)
    assert np.array_equal(first.boxes, again.boxes)
    for other in (make_sample(kind, 3, 6, fonts=fonts), make_sample(kind, 4, 5, fonts=fonts)):
        assert not np.array_equal(np.asarray(first.image), np.asarray(other.image))


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_character_has_a_box_inside_the_picture(kind, fonts):
    for sample in samples(kind, 40, fonts):
        assert sample.image.mode == "RGB" and sample.kind == kind
        assert sample.boxes.dtype == np.float32 and sample.boxes.shape == (len(sample.chars), 4)
        x0, y0, x1, y1 = sample.boxes.T
        assert (x0 >= 0).all() and (y0 >= 0).all() and (x0 < x1).all() and (y0 < y1).all()
        assert (x1 <= sample.image.width).all() and (y1 <= sample.image.height).all()
        assert not re.search(r"\s", sample.chars)
        if sample.prompt == "Read.":
            assert sample.chars.replace(NOTHING, "") == "".join(sample.answer.split())
        assert set(sample.font.split(", ")) <= {font.family for font in fonts}


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_answers_are_clean_lines(kind, fonts):
    for sample in samples(kind, 40, fonts):
        lines = sample.answer.split("\n")
        empty = kind == "strip" and not sample.answer  # the only kind that may say nothing
        clean = all(line and line == line.strip() and "  " not in line for line in lines)
        assert clean or empty, sample.answer
        assert set(sample.answer) <= set(CHARACTERS if kind == "strip" else string.printable)


@pytest.mark.parametrize("degrees", [0.0, 3.0, -2.5])
def test_ink_lies_in_the_boxes_and_each_box_has_ink(fonts, degrees):
    page = Page((100, 300), (255, 255, 255))
    for baseline, font in ((40, fonts[0]), (80, fonts[-1])):
        page.write(face(font, 22), "Quick, jumpy {fox}!", 20, baseline)
    assert page.tilt(degrees)
    covered = np.zeros((100, 300), bool)
    for x0, y0, x1, y1 in page.boxes:
        rows, columns = slice(int(y0), int(np.ceil(y1))), slice(int(x0), int(np.ceil(x1)))
        assert page.ink[rows, columns].max() > 60
        covered[max(rows.start - 1, 0) : rows.stop + 1, max(columns.start - 1, 0) : columns.stop + 1] = True
    assert page.ink[~covered].max() == 0


def test_a_face_keeps_what_its_font_draws(fonts):
    for font in fonts[:5]:
        kept = face(font, 21)
        font_file = ImageFont.truetype(font.path, 21, layout_engine=ImageFont.Layout.BASIC)
        for char in f"{synth_text.VISIBLE} ":
            ours, other = kept.glyph(char), render(font_file, char)
            assert np.array_equal(ours.mask, other.mask) and ours[1:] == other[1:]
        assert kept.width("ab c") == sum(render(font_file, char).advance for char in "ab c")


def test_boxes_turn_as_pillow_turns_pixels():
    picture = np.zeros((128, 256), np.uint8)
    picture[30:40, 200:220] = 255
    turned = np.asarray(Image.fromarray(picture).rotate(5.0, Image.Resampling.BILINEAR))
    ys, xs = np.nonzero(turned > 127)
    hull = turned_boxes(np.array([[200, 30, 220, 40]], np.float32), 5.0, 256, 128)[0]
    np.testing.assert_allclose(hull, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1.5)


def test_a_tilt_that_would_cut_text_is_refused(fonts):
    page = Page((128, 256), (255, 255, 255))
    page.write(face(fonts[0], 20), "edge", 2, 20)
    before = page.ink.copy()
    assert not page.tilt(8.0)
    assert np.array_equal(page.ink, before)


def test_writing_outside_the_picture_is_an_error(fonts):
    with pytest.raises(ValueError, match="leaves the 40x40 picture"):
        Page((40, 40), (0, 0, 0)).write(face(fonts[0], 20), "too long for this", 0, 30)


def test_cards_have_the_lines_asked_for(fonts):
    seen = set()
    for sample in samples("card", 60, fonts, min_lines=2, max_lines=4):
        assert (sample.image.height, sample.image.width) == CARD_SIZE
        seen.add(sample.answer.count("\n") + 1)
    assert seen == {2, 3, 4}
    cards = samples("card", 200, fonts, max_lines=1)
    assert 60 < sum(card.guessable for card in cards) < 140


def test_ink_differs_from_ground():
    dice = Dice(1)
    for _ in range(300):
        light = brightness(any_ground(dice))
        assert abs(brightness(ink_for(dice, light, light)) - light) >= 95


def test_random_text_uses_every_printable_character():
    dice = Dice(2)
    text = " ".join(synth_text.random_phrase(dice) for _ in range(4000))
    assert set(text) == set(synth_text.VISIBLE) | {" "}
    natural = [synth_text.natural_phrase(dice) for _ in range(500)]
    assert len(set(natural)) > 450
    assert all(phrase == phrase.strip() and "  " not in phrase for phrase in natural)


def test_receipts_add_up(fonts):
    checked = 0
    for sample in samples("receipt", 120, fonts):
        rows = sample.answer.split("\n")
        if sample.prompt != "Read." or not any(row.lower().startswith("subtotal") for row in rows):
            continue
        amounts = {row.split()[0].lower(): _cents(row) for row in rows[-3:]}
        first_item = next(i for i, row in enumerate(rows) if re.search(r" \d+\.\d\d$", row))
        items = sum(_cents(row) for row in rows[first_item:-3])
        percent = int(re.search(r"(\d+)%", rows[-2])[1])
        assert items == amounts["subtotal"]
        assert amounts["tax"] == (items * percent + 50) // 100
        assert amounts["total"] == amounts["subtotal"] + amounts["tax"]
        checked += 1
    assert checked > 20


def _cents(row):
    whole, cents = row.split()[-1].lstrip("$").split(".")
    return 100 * int(whole) + int(cents)


def test_table_answers_are_markdown_with_the_drawn_cells(fonts):
    for sample in samples("table", 30, fonts):
        header, rule, *rows = [line[2:-2].split(" | ") for line in sample.answer.split("\n")]
        assert sample.prompt == "Read the table." and set(rule) == {"---"} and len(rows) >= 2
        assert {len(header)} == {len(row) for row in [rule, *rows]}
        drawn = "".join(cell for row in [header, *rows] for cell in row)
        assert sample.chars == "".join(drawn.split())


@pytest.mark.parametrize(
    ("kind", "prompt"), [("chart", "Read the chart."), ("form", "Read."), ("receipt", "Read.")]
)
def test_questions_are_answered_by_what_is_drawn(fonts, kind, prompt):
    drawn = samples(kind, 60, fonts)
    asked = [sample for sample in drawn if sample.prompt != prompt]
    assert 10 < len(asked) < 50
    for sample in asked:
        assert sample.prompt.startswith("What is the ") and sample.prompt.endswith("?")
        assert "".join(sample.answer.split()) in sample.chars


def test_noise_and_jpeg_keep_the_picture():
    picture = Image.new("RGB", (256, 128), (90, 120, 200))
    noisy = np.asarray(add_noise(picture, Dice(3), 10.0)).astype(int)
    assert 5 < noisy.std(axis=(0, 1)).mean() < 15
    again = through_jpeg(picture, 80)
    assert again.mode == "RGB" and again.size == picture.size
    assert np.abs(np.asarray(again).astype(int) - np.asarray(picture)).max() < 12


def test_fonts_are_text_fonts_and_held_out_families_stay_out(fonts):
    assert list(fonts) == sorted(fonts) and len(set(fonts)) == len(fonts)
    assert not [font for font in fonts if font.family.startswith(HELD_OUT_FAMILIES)]
    assert not [font for font in fonts if re.search("STIXSiz|cmsy|Symbol|LastResort", font.path)]
    assert len({(font.family, font.style) for font in fonts}) == len(fonts)
    with contextlib.suppress(UsageError):  # they are there after runs/fonts.sh only
        assert {font.family for font in find_fonts(held_out=True)} <= set(HELD_OUT_FAMILIES)
    with pytest.raises(UsageError, match=r"Open Sans and PT Serif .* `apt-get install fonts-open-sans"):
        find_fonts(held_out=True, folders=("/no/such/folder",))


def test_symbol_fonts_are_not_usable():
    matplotlib = pytest.importorskip("matplotlib")
    folder = f"{matplotlib.get_data_path()}/fonts/ttf"
    assert draws_ascii(f"{folder}/DejaVuSans.ttf")
    assert not draws_ascii(f"{folder}/STIXSizOneSymReg.ttf")


def test_no_fonts_is_one_sentence_with_the_mend(tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"this is no font")
    with pytest.raises(UsageError, match="apt-get install") as caught:
        find_fonts(folders=(str(tmp_path),))
    assert "pip install matplotlib" in str(caught.value) and str(tmp_path) in str(caught.value)


def test_parquet_has_finevisions_columns_and_the_same_pixels(tmp_path, fonts):
    path = tmp_path / "cards.parquet"
    write_parquet(path, ["card", "scene"], 300, 7, fonts=fonts, max_lines=2)
    file = pq.ParquetFile(path)
    groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    assert groups == [256, 44]
    schema = file.schema_arrow
    assert schema.field("images").type == pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    texts = pa.list_(pa.struct([("user", pa.string()), ("assistant", pa.string())]))
    assert schema.field("texts").type == texts and schema.field("source").type == pa.string()
    row = file.read_row_group(1).to_pylist()[3]  # row 259: the 130th scene
    sample = make_sample("scene", 7, 129, fonts=fonts, max_lines=2)
    picture = Image.open(io.BytesIO(row["images"][0]["bytes"]))
    assert np.array_equal(np.asarray(picture), np.asarray(sample.image))
    assert row["texts"] == [{"user": "Read.", "assistant": sample.answer}]
    assert (row["source"], row["font"], row["guessable"]) == ("synth/scene", sample.font, sample.guessable)
    assert row["char_boxes"] == to_row(sample)["char_boxes"]
    assert [path.name for path in tmp_path.iterdir()] == ["cards.parquet"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "poem"},
        {"kind": "card", "max_lines": 5},
        {"kind": "card", "min_lines": 3, "max_lines": 2},
        {"kind": "card", "seed": -1},
        {"kind": "card", "index": -1},
        {"kind": "card", "fonts": ()},
    ],
)
def test_impossible_requests_are_usage_errors(wrong, fonts):
    with pytest.raises(UsageError):
        make_sample(**{"seed": 0, "index": 0, "fonts": fonts} | wrong)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--kind=poem"], "poem"),
        (["--count=0"], "count is 0"),
        (["--seed=-2"], "seed is -2"),
        (["--max_lines=9"], "max_lines=9"),
        (["--out=/no/such/folder/x.parquet"], "/no/such/folder"),
        (["--out="], "names no file"),
        (["--lines=3"], "--lines"),
    ],
)
def test_command_line_mistakes_are_one_sentence_and_exit_2(tmp_path, capsys, flags, named):
    assert run(main, [f"--out={tmp_path / 'x.parquet'}", "--count=2", *flags]) == 2
    message = capsys.readouterr().err
    assert named in message and message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_command_line_writes_all_kinds_in_turn(tmp_path):
    path = tmp_path / "all.parquet"
    assert run(main, [f"--out={path}", "--kind=all", "--count=9", "--seed=1"]) == 0
    kinds = list(KINDS)
    sources = pq.read_table(path, columns=["source"])["source"].to_pylist()
    assert sources == [f"synth/{kind}" for kind in (kinds + kinds)[:9]]
