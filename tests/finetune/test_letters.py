"""Texts in capitals: training sees the case of the print, and the model that comes out writes capitals."""

import io
from dataclasses import replace

import numpy as np
import pytest

from nanoocr.document import Box, Line, Word
from nanoocr.finetune.letters import as_printed, in_case_of, letters_of
from nanoocr.finetune.measure import Measured, Reading, judge
from nanoocr.finetune.types import CutDocument, LineStrip, TrueDocument
from nanoocr.inference.assemble import line_in
from nanoocr.inference.reader import Reader, default_model_folder
from nanoocr.model.folder import load_letters, load_model, save_model
from tests.finetune.drawn import document


@pytest.mark.parametrize(
    ("truth", "read", "wanted"),
    [
        ("TAX INVOICE", "Tax Invoice", "Tax Invoice"),
        ("TOTAL (GST INCL)", "Total. G5T Inc1", "Total (GST Incl)"),  # misread ones as their neighbours
        ("TOTAL", "1otal", "Total"),  # a word may begin with a capital
        ("GST 6%", "GST 6%", "GST 6%"),
        ("total", "TOTAL", "TOTAL"),
        ("STRASSE 1", "x", "STRASSE 1"),  # nothing was read of it
        ("ABC", "", "ABC"),
    ],
)
def test_a_text_takes_the_case_that_was_read(truth, read, wanted):
    assert in_case_of(truth, read) == wanted
    assert in_case_of(truth, read).lower() == truth.lower()


def cut(truth, read, count=20, chars=""):
    strip = LineStrip("d", "d", np.zeros((64, 64, 3), np.uint8), (0, 9), truth, read, 1.0, chars)
    return CutDocument(TrueDocument("d", b"", "text", truth, "d"), (strip,) * count, read, 9)


def test_only_texts_of_one_kind_against_the_print_are_called_so():
    assert letters_of([cut("TAX INVOICE", "Tax Invoice")]) == "capitals"
    assert letters_of([cut("tax invoice", "Tax Invoice"), cut("exit", "EXIT")]) == "small"
    assert letters_of([cut("TAX INVOICE", "TAX INVOICE")]) == ""  # the print is in capitals, too
    assert letters_of([cut("Tax Invoice", "tax lnvoice")]) == ""
    assert letters_of([cut("TAX INVOICE", "Tax Invoice", count=2)]) == ""  # too little to say anything
    assert letters_of([cut("12.50 §", "12.50")]) == "" and letters_of([]) == ""


def test_strips_get_the_case_of_the_print_and_so_do_their_letters():
    (strip, *_) = as_printed(cut("TAX IN", "Tax ln", chars="TAXIN")).strips
    assert (strip.truth, strip.chars) == ("Tax In", "TaxIn")


def test_a_model_folder_says_what_its_texts_are_written_in(tmp_path):
    model, tokenizer = load_model(default_model_folder())
    save_model(tmp_path / "m", model, tokenizer, about={"letters": "capitals"})
    reader = Reader(tmp_path / "m", device="cpu")
    assert reader.letters == "capitals" and reader.line_reader("Read.").letters == "capitals"
    assert load_letters(default_model_folder()) == ""
    quad = Box(0, 0, 9, 9).quad()
    line = Line("Straße 1", quad, words=(Word("Straße", quad), Word("1", quad)))
    assert line_in(line, "") is line
    shown = line_in(line, "capitals")
    assert shown.text == "STRASSE 1" and [word.text for word in shown.words] == ["STRASSE", "1"]


def test_capitals_alone_do_not_hide_that_the_weights_read_worse():
    one = tuple(Reading(str(i), str(i), "TAX INVOICE", "Tax Invoice") for i in range(8))
    better = tuple(replace(reading, read="TAX INVOICE") for reading in one)
    worse = tuple(replace(reading, read="TAX INV01CE") for reading in one)
    before = Measured(one, one, one)
    assert judge(before, Measured(better, better, one)).better
    assert "without case" in judge(before, Measured(worse, worse, one)).reasons[0]


def test_reading_and_serving_write_capitals_alike(monkeypatch):
    pytest.importorskip("starlette")
    from nanoocr.serve.service import DocumentRequest, Service, Watch

    class Told(Watch):
        def __init__(self) -> None:
            self.texts: list[str] = []

        def strip_read(self, number, place, reading) -> None:
            self.texts.append(reading.completion.text)

    page, lines, _ = document(3)
    stored = io.BytesIO()
    page.save(stored, "PNG")
    reader = Reader(device="cpu")
    monkeypatch.setattr(reader, "letters", "capitals")
    assert reader.read(page).text.split() == "\n".join(lines).upper().split()
    service, told = Service(reader, "mine", max_pages=3), Told()
    try:
        (read,) = service.read(DocumentRequest(stored.getvalue(), "a.png"), told)
    finally:
        service.close()
    assert read.page.text == reader.read(page).text
    shown = " ".join(told.texts)
    assert sorted(shown.split()) == sorted(read.page.text.split())
