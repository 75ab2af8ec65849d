"""Threads with lines of their own read the page that one thread reads."""

import threading
from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from nanoocr.data.synth import find_fonts
from nanoocr.inference.lines import room_for_letters
from nanoocr.inference.reader import Reader
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.inference.threads import LEAST_LETTERS, MOST_LETTERS, shares_of, side_by_side, undivided_products
from nanoocr.layout import find_page


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("letters", [[], [3.0], [80.0] * 61, [40.0] * 2_000, [0.0, 0.0]])
def test_every_line_is_in_one_share_and_shares_are_worth_a_thread(letters, threads):
    shares = shares_of(letters, threads)
    assert sorted(place for share in shares for place in share) == list(range(len(letters)))
    of_shares = [sum(letters[place] for place in share) for share in shares]
    if len(shares) > 1:
        assert all(LEAST_LETTERS / 2 < one < 2 * MOST_LETTERS for one in of_shares)
        assert len(shares) % min(threads, len(shares)) == 0  # every thread has as many
    assert threads == 1 or sum(letters) < 2 * LEAST_LETTERS or len(shares) > 1


def test_one_thread_reads_a_page_of_any_length_in_one_go():
    assert shares_of([80.0] * 10_000, 1) == [list(range(10_000))]


def test_shares_run_at_the_same_time_and_a_failure_is_told():
    together = threading.Barrier(2, timeout=20)
    assert side_by_side(lambda share: (together.wait(), sum(share))[1], [[1, 2], [3]], 2) == [3, 3]

    def fails(share):
        if share == [2]:
            raise ValueError("share 2")
        return share

    with pytest.raises(ValueError, match="share 2"):
        side_by_side(fails, [[1], [2], [3]], 2)


def test_products_are_undivided_in_the_block_and_in_threads_that_start_there():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with undivided_products():
            assert torch.get_num_threads() == 1
            assert side_by_side(lambda _: torch.get_num_threads(), [[0], [1]], 2) == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def page_of_text() -> Image.Image:
    image = Image.new("RGB", (900, 520), "white")
    draw = ImageDraw.Draw(image)
    family = next(font for font in find_fonts() if "DejaVu Sans" in font.family)
    face = ImageFont.truetype(str(family.path), 22)
    texts = ["Strips of many widths", "4711 ab-CD", "are read by each thread,", "and one", "page"]
    for row, text in enumerate(2 * texts):
        draw.text((30, 30 + 40 * row), f"{text} " * 3, "black", face)
    return image


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_page_is_the_same_whatever_the_number_of_threads(temperature):
    reader = Reader(device="cpu", dtype="float32", sampling=SamplingConfig(temperature=temperature, seed=5))
    lines = replace(reader.line_reader(reader.prompt), threads=1)
    image = page_of_text()
    one = lines.read(image)
    three = replace(lines, threads=3).read(image)
    layout = find_page(image)
    assert len(one.lines) == len(layout.lines) == 10
    assert len(shares_of([room_for_letters(line) for line in layout.lines], 3)) == 3
    assert [line.text for line in three.lines] == [line.text for line in one.lines]
    assert [line.quad for line in three.lines] == [line.quad for line in one.lines]
    for line, same in zip(one.lines, three.lines, strict=True):
        assert same.confidence == pytest.approx(line.confidence, abs=1e-4)


def test_the_reader_takes_as_many_threads_as_torch_has():
    before = torch.get_num_threads()
    reader = Reader(device="cpu")
    try:
        torch.set_num_threads(2)
        assert reader.line_reader(reader.prompt).threads == 2
        reader.read(page_of_text())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
