"""What a row's encoded picture shows in training is what reading shows of the same file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image, TiffImagePlugin

from nanoocr.data.rows import checked_row, read_rows
from nanoocr.errors import UsageError
from nanoocr.finetune.boxes import document_of
from nanoocr.finetune.types import FoundPage
from nanoocr.pages import open_source
from nanoocr.pictures import SUBFILE_TYPE
from nanoocr.tasks.choose import make_task

PAGE, THUMBNAIL = (200, 150), (20, 15)


def a_tiff_that_begins_with_a_smaller_copy() -> bytes:
    copy = TiffImagePlugin.ImageFileDirectory_v2()
    copy[SUBFILE_TYPE] = 1
    stored = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(stored, True) as writer:
        Image.new("L", THUMBNAIL, 255).save(writer, "TIFF", tiffinfo=copy)
        writer.newFrame()
        Image.new("L", PAGE, 255).save(writer, "TIFF")
        writer.newFrame()
        return stored.getvalue()


def a_pdf_behind_the_head_of_its_download() -> bytes:
    stored = io.BytesIO()
    Image.new("L", PAGE, 255).save(stored, "PDF")
    return b"HTTP/1.1 200 OK\r\n\r\n" + stored.getvalue()


@pytest.mark.parametrize(
    "made", [a_tiff_that_begins_with_a_smaller_copy, a_pdf_behind_the_head_of_its_download]
)
def test_training_sees_the_page_that_reading_sees(tmp_path, made):
    content = made()
    (seen,) = [picture.image for picture in open_source(content)]
    row = checked_row("a", [content], [("Read.", "Hi")], "test")
    assert [image.size for image in row.images()] == [seen.size]
    found = FoundPage("a", (float("nan"),) * 2, (("Hi", [(5, 5), (95, 5), (95, 35), (5, 35)]),))
    (tmp_path / "a").write_bytes(content)
    (document,) = document_of(Path(tmp_path / "a"), found, "a")
    assert document.lines[0].quad[2] == (95, 35)


@pytest.mark.parametrize("suffix", ["tif", "pdf"])
def test_a_row_of_a_list_shows_all_pages_of_its_file(tmp_path, suffix):
    page = Image.new("L", PAGE, 255)
    page.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[page])
    entry = {"id": "a", "image": f"a.{suffix}", "prompt": "Read.", "answer": "Hi"}
    (tmp_path / "rows.json").write_text(json.dumps([entry]))
    assert len(read_rows(tmp_path / "rows.json")[0].pictures) == 2


def test_a_budget_that_is_no_number_is_refused():
    for value in ("nan", "inf"):
        with pytest.raises(UsageError, match=f"max_gb={value} is no float"):
            make_task(f"gsm8k?max_gb={value}")
