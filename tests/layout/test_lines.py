import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageFont

from nanoocr.data.synth.dice import Dice
from nanoocr.errors import UsageError
from nanoocr.layout import find_page
from scripts.dev.make_style import SIZE, document, find_font
from tests.layout.pages import PROSE, SANS, cap_height, found_order, holds, hull, paper, prose, write


def test_lines_of_a_plain_page_are_found_once_and_in_order():
    image, draw = paper(600, 500)
    boxes = prose(draw, 40, 60, 500, rows=15)
    layout = find_page(image)
    assert found_order(layout, boxes) == list(range(15))
    assert len(layout.lines) == 15
    assert layout.size == (500, 600)


def test_baseline_and_cap_height_are_exact():
    image, draw = paper(500, 200)
    write(draw, 30, 100, "Hamburg Alle Pferde", 24)
    (line,) = find_page(image).lines
    assert line.cap_height == pytest.approx(cap_height(24), abs=1.5)
    assert [y for _, y in line.baseline] == pytest.approx([99.5, 99.5], abs=1.0)


def test_a_word_without_capitals_borrows_the_height_of_its_neighbours():
    image, draw = paper(600, 400)
    prose(draw, 40, 60, 500, rows=6)
    write(draw, 40, 60 + 6 * 24, "sauce", 16)
    layout = find_page(image)
    assert layout.lines[-1].cap_height == pytest.approx(cap_height(16), abs=1.5)


@pytest.mark.parametrize("text", ["near share grey", "some grey spray", "same sugar wage sheep"])
def test_a_line_of_low_letters_alone_on_a_card_is_text(text):
    image, draw = paper(256, 128)
    low = ImageFont.truetype(str(SANS.parent / "cmr10.ttf"), 24)  # its capitals rise 1.6 times above an x
    draw.text((20, 60), text, fill="black", font=low)
    assert len(find_page(image).lines) == 1


@pytest.mark.parametrize("size", [12, 20, 36])
@pytest.mark.parametrize("word", ["page", "gap", "egg", "gape", "agape pop", "payee", "stop", "pals", "Rays"])
def test_a_short_word_in_which_many_letters_hang_is_text(word, size):
    image, draw = paper(24 * size, 10 * size)
    for row, text in enumerate(["In this town nobody hurries", "before noon and the ferry", word]):
        write(draw, 2 * size, (3 + 2 * row) * size, text, size)
    *_, line = find_page(image).lines
    # The baseline of "page" is that of "a" and "e", and not that of the two that hang a quarter lower.
    assert np.mean([y for _, y in line.baseline]) == pytest.approx(7 * size, abs=0.12 * size)


@pytest.mark.parametrize("size", [14, 22, 36])
@pytest.mark.parametrize(
    "text", ["see also egg, gap", "flight to Egypt", "gypsy lady", "Qty 3 @ 4.50", "hello jog"]
)
def test_letters_that_hang_at_one_end_do_not_tilt_a_short_line(text, size):
    image, draw = paper(24 * size, 10 * size)
    for row, line in enumerate(["In this town nobody hurries", "before noon and the ferry", text]):
        write(draw, 2 * size, (3 + 2 * row) * size, line, size)
    *_, line = find_page(image).lines
    assert [y for _, y in line.baseline] == pytest.approx(
        [7 * size] * len(line.baseline), abs=0.08 * size + 0.5
    )


@pytest.mark.parametrize("tilt", [-2.0, 1.0, 2.0])
def test_a_short_line_that_is_tilted_alone_keeps_its_tilt(tilt):
    image, draw = paper(620, 300)
    for row, text in enumerate(["In this town nobody hurries", "before noon and the ferry"]):
        write(draw, 40, 60 + 44 * row, text, 22)
    scrap, ink = paper(620, 300)
    write(ink, 40, 200, "Paid 24 May, thank you", 22)
    turned = scrap.rotate(-tilt, center=(40, 200), resample=Image.Resampling.BICUBIC, fillcolor="white")
    image.paste(turned.crop((0, 150, 620, 300)), (0, 150))
    *_, line = find_page(image).lines
    (x0, y0), (x1, y1) = line.baseline[0], line.baseline[-1]
    assert np.degrees(np.arctan2(y1 - y0, x1 - x0)) == pytest.approx(tilt, abs=0.4)


@pytest.mark.parametrize(
    "text", ["vacuum seals", "Wormy roses on pews", "some more ham", "a map of our zone"]
)
def test_few_tall_letters_tell_the_height_of_capitals(text):
    image, draw = paper(500, 120)
    write(draw, 40, 70, text, 24)
    (line,) = find_page(image).lines
    assert line.cap_height == pytest.approx(cap_height(24), rel=0.12)


@pytest.mark.parametrize("text", ["NO REFUNDS (SEE MAP)", "CAFE EROICA", "SUM 20.99", "A/C REMOVAL"])
def test_a_line_of_capitals_has_their_height(text):
    image, draw = paper(500, 120)
    write(draw, 40, 70, text, 24)
    (line,) = find_page(image).lines
    assert line.cap_height == pytest.approx(cap_height(24), rel=0.12)


def test_items_and_far_prices_of_a_receipt_are_one_line_each():
    image, draw = paper(420, 400)
    items = ["Coffee beans 1kg", "Milk", "Rye bread", "Butter", "Salt", "Apples red", "Total"]
    left = [write(draw, 20, 60 + 30 * k, text, 16) for k, text in enumerate(items)]
    right = [write(draw, 340, 60 + 30 * k, f"{3 * k + 1}.{k}0", 16) for k in range(len(items))]
    layout = find_page(image)
    assert found_order(layout, left) == found_order(layout, right) == list(range(7))


def test_two_columns_of_prose_are_read_one_after_the_other():
    image, draw = paper(760, 420)
    left = prose(draw, 40, 60, 320, rows=12)
    right = prose(draw, 410, 60, 320, rows=12)
    layout = find_page(image)
    assert found_order(layout, left + right) == list(range(24))
    assert layout.lines[0].block != layout.lines[12].block


def test_a_headline_across_two_columns_is_read_first():
    image, draw = paper(760, 460)
    head = write(draw, 150, 60, "Ferries wait for nobody here", 30)
    left = prose(draw, 40, 130, 320, rows=10)
    right = prose(draw, 410, 130, 320, rows=10)
    layout = find_page(image)
    assert found_order(layout, [head, *left, *right]) == list(range(21))


@pytest.mark.parametrize("ground", ["black", "#203080", "#006030"])
def test_light_letters_on_dark_ground_are_found(ground):
    image, draw = paper(600, 300)
    prose(draw, 40, 50, 500, rows=3)
    draw.rectangle((30, 140, 570, 200), fill=ground)
    box = write(draw, 60, 178, "White letters on a bar", 22, fill="white")
    layout = find_page(image)
    assert found_order(layout, [box]) == [3]


def test_gradients_and_shadows_do_not_hide_letters():
    image, draw = paper(600, 300)
    boxes = prose(draw, 40, 60, 500, rows=8)
    shade = np.linspace(1.0, 0.35, 600)[None, :, None]
    dim = Image.fromarray((np.asarray(image) * shade).astype(np.uint8))
    assert found_order(find_page(dim), boxes) == list(range(8))


def test_faint_print_is_found_beside_black_print():
    image, draw = paper(600, 300)
    boxes = prose(draw, 40, 60, 500, rows=4)
    faint = write(draw, 40, 220, "printed when the roll was old", 16, fill="#b8b8b8")
    assert found_order(find_page(image), [*boxes, faint]) == list(range(5))


def test_rules_boxes_and_underlines_are_no_lines_and_hide_none():
    image, draw = paper(500, 360)
    boxes = [
        write(draw, 60, 70 + 60 * k, text, 18)
        for k, text in enumerate(["Name of child", "Born on", "Seen by"])
    ]
    for k in range(3):
        draw.rectangle((40, 40 + 60 * k, 460, 90 + 60 * k), outline="black", width=2)
        draw.line((60, 74 + 60 * k, 300, 74 + 60 * k), fill="black", width=1)
    draw.line((20, 320, 480, 320), fill="black", width=3)
    layout = find_page(image)
    assert found_order(layout, boxes) == [0, 1, 2]
    assert len(layout.lines) == 3


def test_small_print_beside_a_headline_stays_apart():
    image, draw = paper(700, 240)
    head = write(draw, 30, 130, "SALE 1987", 72)
    small = [
        write(draw, 480, 80 + 18 * k, text, 12)
        for k, text in enumerate(["all prices in", "pounds and", "pence here"])
    ]
    found = found_order(find_page(image), [head, *small])
    assert -1 not in found
    assert len(set(found)) == 4


def test_text_at_the_pictures_edges_is_found():
    image, draw = paper(260, 60)
    write(draw, -2, 22, "Kilometre 12", 20)
    write(draw, 120, 58, "Alpine road", 20)
    layout = find_page(image)
    assert len(layout.lines) == 2


@pytest.mark.parametrize("row", [4, 76])
def test_a_line_that_the_pictures_edge_cuts_in_two_is_left_out(row):
    image, draw = paper(420, 70)
    write(draw, 10, 45, "Hardware Trading 12", 24)
    write(draw, 10, row, "THE OTHER LINES HEADS", 24)
    (line,) = find_page(image).lines
    assert line.baseline[0][1] == pytest.approx(44.5, abs=1.5)


@pytest.mark.parametrize(("width", "height", "size"), [(400, 40, 24), (60, 20, 14), (1200, 60, 40)])
def test_a_picture_of_one_line_is_one_line(width, height, size):
    image, draw = paper(width, height, "#e8e0c8")
    text = {14: "Milk", 24: "Departure 17:45 from", 40: "A long line that fills all the width of it"}[size]
    box = write(draw, 6, height - height // 3, text, size)
    layout = find_page(image)
    assert len(layout.lines) == 1
    assert holds(box, layout.lines[0].quad)


def test_word_gaps_lie_between_the_words():
    image, draw = paper(400, 80)
    first = write(draw, 20, 50, "North", 24)
    second = write(draw, first[2] + 20, 50, "Sea", 24)
    (line,) = find_page(image).lines
    widest = max(line.gaps, key=lambda gap: gap[1] - gap[0])
    start = line.baseline[0][0]
    assert start + widest[0] == pytest.approx(first[2], abs=2.5)
    assert start + widest[1] == pytest.approx(second[0], abs=3.5)


def test_a_curved_line_has_a_bent_baseline():
    flat, draw = paper(900, 120)
    write(draw, 20, 60, "The ferry waits for its last passenger even when the wind turns", 22)
    pixels = np.full((160, 900, 3), 255, np.uint8)
    for x in range(900):
        lift = round(24 * ((x - 450) / 450) ** 2)
        pixels[lift : lift + 120, x] = np.asarray(flat)[:, x]
    (line,) = find_page(Image.fromarray(pixels)).lines
    assert len(line.baseline) > 2
    for x, y in line.baseline:
        assert y == pytest.approx(59.5 + 24 * ((x - 450) / 450) ** 2, abs=3.0)


def _noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (300, 400, 3)).astype(np.uint8))


def _texture(seed: int) -> Image.Image:
    return _noise(seed).filter(ImageFilter.GaussianBlur(2.5))


def _rules(seed: int) -> Image.Image:
    image, draw = paper(500, 400)
    for k in range(12):
        draw.line((20, 30 + 30 * k, 480, 30 + 30 * k), fill="black", width=1 + (k + seed) % 3)
    for k in range(40):
        draw.line((20 + 12 * k, 385, 27 + 12 * k, 385), fill="black", width=2)
    return image


def _blank(seed: int) -> Image.Image:
    return paper(300 + 7 * seed, 200, (250, 240 - seed, 230))[0]


def _landscape(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = np.zeros((360, 480))
    for octave in (6, 12, 24, 48, 96):
        small = Image.fromarray(rng.normal(0, 255 / octave, (octave, octave)).astype(np.float32))
        pixels += np.asarray(small.resize((480, 360), Image.Resampling.BICUBIC))
    grey = np.clip(128 + 1.5 * pixels, 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


@pytest.mark.parametrize("draw_page", [_noise, _texture, _rules, _blank, _landscape])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pictures_without_text_have_no_lines(draw_page, seed):
    assert len(find_page(draw_page(seed)).lines) == 0


def test_quads_start_at_the_texts_top_left_and_go_clockwise():
    image, draw = paper(400, 100)
    box = write(draw, 30, 60, "Hamburg", 28)
    (line,) = find_page(image).lines
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = line.quad
    assert ax < bx and ay < dy and by < cy and dx < cx
    assert hull(line.quad)[0] == pytest.approx(box[0], abs=2)
    assert hull(line.quad)[2] == pytest.approx(box[2], abs=2)


def test_ten_thousand_specks_end_soon():
    rng = np.random.default_rng(0)
    pixels = np.full((1500, 1500, 3), 255, np.uint8)
    for x, y in rng.integers(0, 1488, (10_000, 2)):
        pixels[y : y + rng.integers(4, 11), x : x + rng.integers(3, 10)] = 0
    assert len(find_page(Image.fromarray(pixels)).lines) < 1000


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_short_word_is_found_whichever_way_it_stands(turns):
    image, draw = paper(800, 400)
    write(draw, 60, 260, "Label:", 66)
    layout = find_page(Image.fromarray(np.rot90(np.asarray(image), turns)))
    assert len(layout.lines) == 1
    assert layout.upright.quarter_turns % 2 == turns % 2  # which way up is for the reader to find out


def test_letters_of_a_quarter_of_the_picture_are_found():
    image, draw = paper(2400, 1800)
    write(draw, 200, 1100, "Rapid Motor", 320)
    (line,) = find_page(image).lines
    assert line.cap_height == pytest.approx(cap_height(320), rel=0.1)


@pytest.mark.parametrize("text", ["0.28", "5.90", "4.50"])
def test_a_few_pale_letters_that_somebody_cut_out_are_a_line(text):
    """They are too few to have a common height and baseline, but nothing else stands in so low a picture."""
    clean, draw = paper(47, 25, (240, 240, 240))
    write(draw, 8, 17, text, 12, fill=(180, 180, 180))
    noise = np.random.default_rng(3).normal(0, 9, (25, 47, 1))
    image = Image.fromarray(np.clip(np.asarray(clean) + noise, 0, 255).astype(np.uint8))
    (line,) = find_page(image, 0).lines
    assert 9 <= line.cap_height <= 13  # the noise makes letters of 9 pixels higher
    on_a_page = Image.new("RGB", (47, 250), (240, 240, 240))
    on_a_page.paste(image, (0, 100))
    assert not find_page(on_a_page, 0).lines


def test_a_faint_spot_that_fills_a_low_picture_is_no_line():
    image, draw = paper(60, 40)
    draw.ellipse((20, 8, 44, 32), fill=(246, 246, 246))
    assert not find_page(image).lines


def test_letters_of_six_pixels_are_lines_of_their_own_columns():
    """As on a page of 72 dpi: half of the letters are five pixels high and hang together by corners."""
    image, draw = paper(612, 500)
    columns = [prose(draw, 45 + 172 * column, 40, 160, rows=36, size=8, pitch=10) for column in range(3)]
    layout = find_page(image)
    assert found_order(layout, [box for column in columns for box in column]) == list(range(108))


def test_a_table_at_the_head_of_a_column_does_not_join_it_to_its_neighbour():
    image, draw = paper(960, 900)
    boxes = prose(draw, 60, 60, 380, rows=34)
    for row in range(20):
        y = 60 + 18 * row
        cells = [write(draw, 520 + 110 * cell, y, f"{row}.5", 14) for cell in range(4)]
        boxes.append((cells[0][0], cells[0][1], cells[-1][2], cells[-1][3]))
    boxes += prose(draw, 520, 60 + 20 * 20, 380, rows=18)
    assert found_order(find_page(image), boxes) == list(range(len(boxes)))


@pytest.mark.parametrize("number", [1, 5])
def test_grain_of_a_photo_does_not_hide_large_lines(number):
    """Analysed enlarged, as small letters are, its grain hung together and took the lines along."""
    try:
        face = ImageFont.truetype(find_font(""), SIZE, layout_engine=ImageFont.Layout.BASIC)
    except UsageError as error:
        pytest.skip(str(error))
    image, _ = document(Dice.for_sample("style", 5, number), face, 4)
    assert len(find_page(image).lines) == 8


def _table(image: Image.Image, draw, colour: str, ink: str, rule: str) -> list[tuple]:
    """A table of small print whose head has a ground of this colour; the boxes of its rows' second cells."""
    left, top, right, pitch, rows = 30, 40, 460, 18, 6
    draw.rectangle((left, top, right, top + pitch), fill=colour)
    for k in range(rows + 1):
        draw.line((left, top + k * pitch, right, top + k * pitch), fill=rule)
    for x in (left, left + 100, right):
        draw.line((x, top, x, top + rows * pitch), fill=rule)
    boxes = []
    for k in range(rows):
        head, cell = (
            ("Number", "What it holds and where") if k == 0 else (f"{7 * k}a", " ".join(PROSE[k : k + 8]))
        )
        fill, base = (ink if k == 0 else "black"), top + k * pitch + 13
        write(draw, left + 8, base, head, 11, fill=fill)
        boxes.append(write(draw, left + 108, base, cell, 11, fill=fill))
    return boxes


@pytest.mark.parametrize(
    ("colour", "ink"),
    [("#40445c", "white"), ("#903030", "#fff0d0"), ("#c8d8f0", "black"), ("#b0b0b0", "black")],
)
def test_rows_of_a_table_with_pale_rules_and_a_head_on_a_ground(colour, ink):
    image, draw = paper(500, 600)
    boxes = _table(image, draw, colour, ink, "#d8d8d8")
    boxes += prose(draw, 30, 240, 430, rows=8, size=11, pitch=16)
    layout = find_page(image)
    assert found_order(layout, boxes) == list(range(14))
    # A piece of a rule within a line would begin it further left.
    assert all(hull(line.quad)[0] > 34 for line in layout.lines[:6])
    assert all(line.cap_height == pytest.approx(cap_height(11), abs=1.5) for line in layout.lines)


def test_lines_of_a_long_screenshot_are_found():
    image, draw = paper(600, 12000)
    boxes = [write(draw, 30, baseline, "Message of the day", size=24) for baseline in range(60, 12000, 300)]
    layout = find_page(image)
    assert found_order(layout, boxes) == list(range(len(boxes)))
