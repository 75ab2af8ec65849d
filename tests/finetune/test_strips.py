"""Documents are cut as reading cuts them, and every strip gets the words that it shows."""

import io
import struct
import zlib

import numpy as np
import pytest

from nanoocr.document import Box
from nanoocr.errors import PictureError
from nanoocr.finetune.store import fingerprint, load_cuts, save_cuts
from nanoocr.finetune.strips import cut_document
from nanoocr.finetune.task import OwnStrips
from nanoocr.finetune.types import TrueDocument, TrueLine
from nanoocr.inference.reader import Reader
from tests.finetune.drawn import document, draw


@pytest.fixture(scope="module")
def lines_of():
    return Reader(device="cpu").line_reader("Read.")


def made(kind="text", seed=3, words=False):
    page, lines, boxes = document(seed)
    stored = io.BytesIO()
    page.save(stored, "PNG")
    true = tuple(
        TrueLine(text, Box(*box).quad(), split_evenly(text, box) if words else ())
        for text, box in zip(lines, boxes)
    )
    return TrueDocument(
        f"d{seed}", stored.getvalue(), kind, "\n".join(lines), f"d{seed}", true if kind == "boxes" else ()
    )


def split_evenly(text, box):
    """Words with boxes as wide as their share of the characters."""
    step, at, found = (box[2] - box[0]) / len(text), 0, []
    for word in text.split():
        left = box[0] + at * step
        found.append(TrueLine(word, Box(left, box[1], left + len(word) * step, box[3]).quad()))
        at += len(word) + 1
    return tuple(found)


@pytest.mark.parametrize("kind", ["text", "boxes"])
def test_every_line_of_a_clean_page_is_found_with_its_text(lines_of, kind):
    given = made(kind)
    cut = cut_document(lines_of, given)
    assert " ".join(strip.truth for strip in cut.strips) == given.text.replace("\n", " ")
    assert cut.aligned == 1 and not cut.left_out and all(s.pixels.shape[0] == 64 for s in cut.strips)


def test_lines_without_a_text_are_left_out_and_counted(lines_of):
    given = made()
    short = "\n".join(given.text.splitlines()[:2])
    cut = cut_document(lines_of, TrueDocument("d", given.source, "text", short, "d"))
    assert " ".join(strip.truth for strip in cut.strips) == short.replace("\n", " ")
    assert len(cut.left_out) >= 2
    other = TrueDocument("d", given.source, "text", "QUITE ANOTHER TEXT IN CAPITALS", "d")
    wrong = cut_document(lines_of, other)
    assert not wrong.strips and wrong.aligned == 0 and wrong.lost.total() == 26


def test_boxes_of_words_become_boxes_of_letters(lines_of):
    cut = cut_document(lines_of, made("boxes", words=True))
    strip = cut.strips[0]
    assert strip.chars == "".join(strip.truth.split())
    middles = strip.boxes[:, [0, 2]].mean(axis=1)
    assert (
        (np.diff(middles) > 0).all() and strip.used[0] - 4 <= middles[0] and middles[-1] <= strip.used[1] + 4
    )


def test_strips_vary_and_stay_the_same_for_the_same_number(lines_of):
    cut = cut_document(lines_of, made("boxes", words=True))
    own = OwnStrips(cut.strips, seed=1)
    again, other = OwnStrips(cut.strips, seed=1), OwnStrips(cut.strips, seed=2)
    shown = [np.asarray(own[i].images()[0]) for i in range(12)]
    assert all((a == np.asarray(again[i].images()[0])).all() for i, a in enumerate(shown))
    assert any((a != np.asarray(other[i].images()[0])).any() for i, a in enumerate(shown))
    assert {own[i].answer for i in range(12)} == {strip.truth for strip in cut.strips}
    for i in range(12):
        boxes, width = own[i].boxes, shown[i].shape[1]
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= 64).all()


def test_cuts_come_back_from_disk_and_not_for_other_data(lines_of, tmp_path):
    given = made("boxes", words=True)
    cut, mark = cut_document(lines_of, given), fingerprint([given], "base")
    save_cuts(tmp_path, mark, [cut])
    (back,) = load_cuts(tmp_path, mark, [given])
    assert [strip.truth for strip in back.strips] == [strip.truth for strip in cut.strips]
    assert (back.strips[0].pixels == cut.strips[0].pixels).all()
    assert np.allclose(back.strips[0].boxes, cut.strips[0].boxes) and back.lost == cut.lost
    assert load_cuts(tmp_path, fingerprint([given], "other"), [given]) is None
    assert load_cuts(tmp_path / "nothing", mark, [given]) is None
    (tmp_path / "strips.parquet").write_bytes(b"broken")
    assert load_cuts(tmp_path, mark, [given]) is None


def header_only_png(width, height):
    """A PNG of so many pixels in a few bytes: what is judged is its header."""
    chunks = {b"IHDR": struct.pack(">II5B", width, height, 8, 2, 0, 0, 0), b"IDAT": b"", b"IEND": b""}
    packed = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_a_scan_of_1200_megapixels_says_so_before_a_pixel_is_decoded(lines_of):
    with pytest.raises(PictureError, match="is too large"):
        cut_document(lines_of, TrueDocument("huge.png", header_only_png(40_000, 30_000), "text", "a", "h"))


def test_a_picture_that_cannot_be_opened_says_so(lines_of):
    with pytest.raises(PictureError):
        cut_document(lines_of, TrueDocument("d", b"no picture", "text", "a", "d"))


def test_boxes_with_another_lines_text_are_contradicted_and_left_out(lines_of):
    given = made("boxes")
    swapped = (*given.lines[1:], given.lines[0])
    wrong = tuple(TrueLine(other.text, line.quad) for line, other in zip(given.lines, swapped))
    half = (*wrong[:2], *given.lines[2:])
    document = TrueDocument("d", given.source, "boxes", given.text, "d", half)
    cut = cut_document(lines_of, document)
    assert " ".join(strip.truth for strip in cut.strips) == " ".join(line.text for line in given.lines[2:])
    assert len(cut.contradicted) == 2 and cut.contradicted[0].startswith("d: the text says ")


def test_a_box_for_some_of_the_ink_contradicts_nothing(lines_of):
    given = made("boxes")
    first = given.lines[0]
    part = TrueLine(first.text.split()[0], first.quad)
    cut = cut_document(lines_of, TrueDocument("d", given.source, "boxes", "x", "d", (part,)))
    assert not cut.contradicted


def test_a_box_or_a_crop_says_what_a_line_of_an_unknown_script_says(lines_of):
    said = ["Ταχίστη αλώπηξ βαφής", "Ψημένη γη υπέρ νωθρού", "κυνός δρασκελίζει"]
    page, boxes = draw(said)
    true = tuple(TrueLine(text, Box(*box).quad()) for text, box in zip(said, boxes))
    whole = TrueDocument("g", encoded(page), "boxes", "\n".join(said), "g", true)
    assert [strip.truth for strip in cut_document(lines_of, whole).strips] == said
    crop = page.crop((0, 0, page.width, boxes[0][3] + 10))
    (strip,) = cut_document(lines_of, TrueDocument("c", encoded(crop), "crop", said[0], "c")).strips
    assert strip.truth == said[0]


def encoded(page):
    stored = io.BytesIO()
    page.save(stored, "PNG")
    return stored.getvalue()
