"""A field that should hold a text and holds something else: numbers are read, other things are no text."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from nanoocr.errors import UsageError
from nanoocr.finetune.label_studio import label_studio_pages
from nanoocr.finetune.sources import gather

SYNTH_DOG = json.dumps({"gt_parse": {"text_sequence": "Good day"}})


@pytest.fixture
def folder(tmp_path):
    Image.new("L", (300, 40), 255).save(tmp_path / "a.png")
    return tmp_path


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (12, "12"), (4.5, "4.5"), ("Good", "Good"), (SYNTH_DOG, "Good day")]
)
def test_a_row_of_a_list_may_say_a_number(folder, value, text):
    (folder / "m.jsonl").write_text(json.dumps({"file_name": "a.png", "text": value}))
    assert [one.text for one in gather(folder).documents] == [text]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"file_name": "a.png", "text": ["Good", "day"]}, "its text is .* and not a text"),
        ({"file_name": "a.png", "text": {"x": 1}}, "its text is .* and not a text"),
        ({"file_name": "a.png", "text": True}, "its text is True and not a text"),
        ({"file_name": "a.png", "ground_truth": '{"gt_parse": {"total": "5"}}'}, "its text is .*gt_parse"),
        ({"file_name": ["a.png"], "text": "Good"}, "its picture is named by .* and not by a path"),
        ({"file_name": "a.png", "text": None}, "its text is empty"),
    ],
)
def test_a_row_of_a_list_that_holds_no_text_is_named(folder, row, why):
    (folder / "m.jsonl").write_text(json.dumps(row))
    with pytest.raises(UsageError, match=why):
        gather(folder)


def test_a_null_among_the_texts_of_boxes_is_no_word(folder):
    points = [[5, 5], [95, 5], [95, 35], [5, 35]]
    label = [{"transcription": text, "points": points} for text in ("Good", None)]
    (folder / "Label.txt").write_text(f"a.png\t{json.dumps(label)}\n")
    assert gather(folder / "Label.txt").documents[0].text == "Good"
    place = {"x": 1, "y": 1, "width": 50, "height": 50}
    results = [{"id": "1", "value": {**place, "text": text}} for text in ([None], ["Good", None])]
    tasks = [{"data": {"ocr": "a.png"}, "annotations": [{"result": [one]}]} for one in results]
    (folder / "export.json").write_text(json.dumps(tasks))
    pages = [page for _, page in label_studio_pages(folder / "export.json")]
    assert [page.lines[0][0].strip() for page in pages] == ["", "Good"]
