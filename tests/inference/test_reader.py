"""Reader, Page and the sources: what comes in, in which form it comes out, and what is refused."""

from __future__ import annotations

import io
import json
import math
import os
import struct
import subprocess
import sys
import threading
import zlib

import pypdfium2
import pytest
import torch
from PIL import Image, ImageDraw, TiffImagePlugin

import nanoocr
from nanoocr.errors import CheckpointError, PictureError, UsageError
from nanoocr.inference import reader as reader_module
from nanoocr.inference.engine import TokenCount
from nanoocr.inference.reader import Page, Reader, choose_dtype, default_model_folder
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.model.folder import save_model
from nanoocr.pages import PageRanges, open_source, parse_pages
from tests.inference.test_engine import TOKENIZER, one_thread, random_model  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder, random_model(sequence_len=128), TOKENIZER)
    return folder


@pytest.fixture(scope="module")
def reader(folder):
    return Reader(folder, device="cpu", max_batch=3)


def picture(seed: int = 0, size: tuple[int, int] = (200, 90)) -> Image.Image:
    image = Image.new("RGB", size, (255, 250 - 60 * seed, 255))
    ImageDraw.Draw(image).rectangle((5 + 20 * seed, 10, 60 + 20 * seed, 60), fill=(40 * seed, 0, 90))
    return image


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def pdf(*sizes: tuple[float, float]) -> bytes:
    document = pypdfium2.PdfDocument.new()
    for width, height in sizes:
        document.new_page(width, height)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def encrypted_pdf() -> bytes:
    """A one-page PDF whose standard encryption has a password that nobody knows."""
    values = "<" + "41" * 32 + ">"
    lock = f"/Encrypt<</Filter/Standard/V 1/R 2/O{values}/U{values}/P -44>>"
    return pdf((100, 100)).replace(b"/Root 1 0 R", f"/Root 1 0 R{lock}".encode())


def huge_png(side: int = 60_000) -> bytes:
    """The header of a picture that would fill 10 GB, in 100 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# What comes out


def test_path_bytes_and_image_give_the_same_page(reader, tmp_path):
    path = tmp_path / "a.png"
    picture().save(path)
    pages = [reader.read(source) for source in (path, str(path), path.read_bytes(), picture())]
    assert len({(page.text, page.confidence, page.tokens) for page in pages}) == 1
    assert [page.file for page in pages] == [str(path), str(path), "the picture", "the picture"]
    assert {(page.page, page.status, page.error) for page in pages} == {(1, "truncated", None)}
    assert pages[0].text
    assert pages[0].seconds > 0


def test_different_pictures_give_different_pages(reader):
    assert reader.read(picture(0)).confidence != reader.read(picture(3)).confidence


def test_list_in_list_out_in_order(reader):
    alone = [reader.read(picture(seed)) for seed in range(4)]
    together = reader.read([picture(seed) for seed in range(4)])  # two batches of at most three
    assert [page.text for page in together] == [page.text for page in alone]
    assert reader.read([]) == []
    assert isinstance(reader.read([picture()]), list)


def test_unreadable_in_a_list_is_a_page(reader, tmp_path):
    pages = reader.read([picture(0), tmp_path / "none.png", b"not a picture", b"", picture(1)])
    assert [page.status for page in pages] == ["truncated", "error", "error", "error", "truncated"]
    assert "none.png" in pages[1].error
    assert (pages[1].text, pages[1].tokens, pages[1].confidence) == ("", TokenCount(0, 0, 0), None)
    assert pages[4].text == reader.read(picture(1)).text


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"not a picture", "unreadable"),
        (b"", "empty"),
        (encoded(picture())[:200], "unreadable"),
        (huge_png(), "too_large"),
        (encrypted_pdf(), "encrypted"),
        (b"%PDF-1.7 and then nothing", "unreadable"),
        (pdf(), "unreadable"),  # no pages: pdfium does not open it
        (pdf((20_000, 20_000)), "too_large"),
    ],
)
def test_single_unreadable_raises(reader, tmp_path, content, kind):
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(PictureError) as caught:
            reader.read(source)
        assert caught.value.kind == kind
    with pytest.raises(PictureError, match=r"x\.bin"):
        reader.read(path)


def test_folders_and_missing_files_are_refused(reader, tmp_path):
    with pytest.raises(PictureError, match="folder"):
        reader.read(tmp_path)
    with pytest.raises(PictureError, match="does not exist") as caught:
        reader.read(tmp_path / "none.png")
    assert caught.value.kind == "missing"
    with pytest.raises(PictureError):
        reader.read("a\0b.png")


@pytest.mark.parametrize(
    "source",
    [io.BytesIO(encoded(picture())), bytearray(encoded(picture())), (p for p in [picture()]), None, 3],
)
def test_what_is_no_source_is_named(reader, source):
    message = f"a path, bytes, a Pillow image, or a list of them, not {type(source).__name__}$"
    for read in (reader.read, lambda source: list(reader.stream(source))):
        with pytest.raises(UsageError, match=message):
            read(source)
    with pytest.raises(UsageError, match=message):
        reader.read([picture(), source])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("content", [encoded(picture()), pdf((200, 90))])
def test_pipes_are_read_once(reader, tmp_path, content):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    page = reader.read(pipe, max_tokens=5)
    writer.join(timeout=10)
    assert (page.text, page.file) == (reader.read(content, max_tokens=5).text, str(pipe))


def test_too_many_bytes_are_refused_unread(reader, tmp_path, monkeypatch):
    monkeypatch.setattr("nanoocr.pages.MAX_BYTES", 2**20)
    with open(tmp_path / "film.png", "wb") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(PictureError, match=r"film\.png is larger than 1 MiB") as caught:
        reader.read(tmp_path / "film.png")
    assert caught.value.kind == "too_large"


def test_prompt_and_limit(reader):
    page = reader.read(picture(), "Read all.", max_tokens=3)
    assert page.tokens.text == 3
    assert page.tokens.prompt == reader.read(picture()).tokens.prompt + 4
    with pytest.raises(UsageError, match="prompt of"):
        reader.read(picture(), "x" * 200)
    with pytest.raises(UsageError, match="max_tokens"):
        reader.read(picture(), max_tokens=0)


def test_stream_adds_up_and_ends_with_the_page(reader):
    *pieces, page = reader.stream(picture(), max_tokens=20)
    expected = reader.read(picture(), max_tokens=20)
    assert len(pieces) > 1
    assert "".join(pieces) == page.text == expected.text
    assert page.tokens == expected.tokens
    with pytest.raises(PictureError):
        list(reader.stream(b""))


def test_sampling_depends_neither_on_the_batch_nor_on_what_cannot_be_read(folder):
    """The n-th readable picture always draws the same numbers, so equal pictures differ by their place."""
    sampling = SamplingConfig(temperature=1.0, seed=5, ignore_stop=True, stop_loops=False)
    good, bad = [picture()] * 4, b"not a picture"
    texts = []
    for max_batch in (1, 2, 32):
        reader = Reader(folder, device="cpu", max_batch=max_batch, sampling=sampling)
        texts.append([page.text for page in reader.read(good, max_tokens=12)])
        mixed = reader.read([bad, good[0], good[1], bad, *good[2:]], max_tokens=12)
        texts.append([page.text for page in mixed if page.status != "error"])
    assert all(text == texts[0] for text in texts)
    assert len(set(texts[0])) == 4


def test_a_stream_samples_like_read(folder):
    reader = Reader(folder, device="cpu", sampling=SamplingConfig(temperature=1.0, seed=5))
    content = pdf((200, 90), (90, 200), (200, 90))
    streamed = [page.text for page in reader.stream(content, max_tokens=9) if isinstance(page, Page)]
    assert streamed == [page.text for page in reader.read(content, max_tokens=9)]
    assert len(set(streamed)) == 3


# PDF


def test_pdf_pages(reader):
    pages = reader.read(pdf((200, 90), (90, 200), (200, 90)), max_tokens=4)
    assert [(page.page, page.status) for page in pages] == [
        (1, "truncated"),
        (2, "truncated"),
        (3, "truncated"),
    ]
    assert reader.read(pdf((200, 90)), max_tokens=4).page == 1
    chosen = reader.read(pdf((200, 90), (90, 200)), pages=parse_pages("2,1,end"), max_tokens=4)
    assert [page.page for page in chosen] == [2, 1, 2]
    with pytest.raises(PictureError, match="has 2 pages, so there is no page 3"):
        reader.read(pdf((200, 90), (90, 200)), pages=parse_pages("1-3"))


@pytest.mark.parametrize("name", ["~draft.pdf", "~"])
def test_a_tilde_is_a_letter_like_others(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pdf((72, 36)))
    (page,) = open_source(name)
    assert (page.file, page.error) == (name, None)


def test_a_bad_page_spoils_only_itself(reader):
    pages = reader.read(pdf((200, 90), (20_000, 20_000), (90, 200)), max_tokens=4)
    assert [page.status for page in pages] == ["truncated", "error", "truncated"]
    assert "page 2" in pages[1].error


def test_a_bad_first_page_does_not_lose_the_others(reader):
    pages = reader.read(pdf((20_000, 20_000), (90, 200)), max_tokens=4)
    assert [(page.page, page.status) for page in pages] == [(1, "error"), (2, "truncated")]
    with pytest.raises(PictureError, match="page 1"):  # the only page that is asked for
        reader.read(pdf((20_000, 20_000), (90, 200)), pages=parse_pages("1"))


def test_pdf_is_rendered_one_page_at_a_time(monkeypatch):
    rendered = []
    render = pypdfium2.PdfPage.render
    monkeypatch.setattr(pypdfium2.PdfPage, "render", lambda *a, **k: rendered.append(1) or render(*a, **k))
    pages = open_source(pdf((72, 36), (72, 36), (72, 36)))
    first = next(pages)
    assert first.image.size == (200, 100)  # 200 dpi
    assert len(rendered) == 1
    pages.close()


# TIFF


def tiff(*pages: Image.Image) -> bytes:
    out = io.BytesIO()
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    return out.getvalue()


def test_tiff_pages(reader, tmp_path):
    alone = [pytest.approx(reader.read(picture(seed), max_tokens=4).confidence) for seed in range(3)]
    assert alone[0] != alone[2].expected
    content = tiff(*map(picture, range(3)))
    (tmp_path / "scan.tif").write_bytes(content)
    for source in (content, tmp_path / "scan.tif"):
        pages = reader.read(source, max_tokens=4)
        assert [(page.page, page.confidence) for page in pages] == list(enumerate(alone, start=1))
    chosen = reader.read(content, pages=parse_pages("3,1"), max_tokens=4)
    assert [page.confidence for page in chosen] == [alone[2], alone[0]]
    with pytest.raises(PictureError, match="has 3 pages, so there is no page 4"):
        reader.read(content, pages=parse_pages("4"))


@pytest.mark.parametrize("source", [tiff(picture(0)), encoded(picture(0)), picture(0)])
def test_a_picture_of_one_page_ignores_pages(source):
    (page,) = open_source(source, pages=parse_pages("4"))
    assert (page.page, page.image.size) == (1, (200, 90))


def test_an_opened_tiff_is_the_picture_at_which_it_stands():
    image = Image.open(io.BytesIO(tiff(picture(0), picture(1, (30, 20)))))
    image.seek(1)
    (page,) = open_source(image)
    assert page.image.size == (30, 20)


def test_a_bad_frame_spoils_only_itself(tmp_path):
    pages = [picture(seed) for seed in range(3)]
    (tmp_path / "scan.tif").write_bytes(tiff(*pages)[:-1000])
    first, second, third = open_source(tmp_path / "scan.tif")
    assert (first.image.tobytes(), second.image.tobytes()) == (pages[0].tobytes(), pages[1].tobytes())
    assert third.image is None
    assert str(third.error).startswith(f"{tmp_path / 'scan.tif'}, page 3, is damaged or cut off")


def test_a_tiff_is_read_from_disk_once_and_decoded_page_by_page(tmp_path, monkeypatch):
    (tmp_path / "scan.tif").write_bytes(tiff(*map(picture, range(3))))
    pages = open_source(tmp_path / "scan.tif")
    next(pages)
    (tmp_path / "scan.tif").unlink()
    decoded = []
    load = TiffImagePlugin.TiffImageFile.load
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", lambda s: decoded.append(s.tell()) or load(s))
    next(pages)
    assert set(decoded) == {1}
    pages.close()


# Page ranges


@pytest.mark.parametrize(
    ("text", "ranges", "chosen"),
    [
        ("1-end", ((1, 0),), [1, 2, 3, 4, 5]),
        ("1-3,2,end", ((1, 3), (2, 2), (0, 0)), [1, 2, 3, 2, 5]),
        ("4-end, 1", ((4, 0), (1, 1)), [4, 5, 1]),
    ],
)
def test_page_ranges(text, ranges, chosen):
    assert parse_pages(text) == PageRanges(ranges)
    assert parse_pages(text).select(5, "x") == chosen


@pytest.mark.parametrize("text", ["", "0", "3-1", "a", "1,,2", "1-", "-1", "end-2", "1-2-3", "1.5", "\u0661"])
def test_bad_page_ranges(text):
    with pytest.raises(UsageError, match="pages"):
        parse_pages(text)


# Page


def test_page_to_json():
    page = Page("\u00e9.png", 2, "a\n\u20ac", "ok", None, math.nan, TokenCount(4, 9, 3), math.inf)
    assert "\n" not in page.to_json()
    assert "\u20ac" in page.to_json()
    values = json.loads(page.to_json())
    known = ["file", "page", "text", "status", "error", "seconds", "tokens", "confidence"]
    assert list(values) == [*known, "width", "height", "quarter_turns", "left_out", "doubt", "lines"]
    assert values["lines"] == []
    assert values["tokens"] == {"vision": 4, "prompt": 9, "text": 3}
    assert (values["seconds"], values["confidence"]) == (None, None)
    assert values["text"] == "a\n\u20ac"


# Loading


def test_missing_and_damaged_models(folder, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError):
        Reader(tmp_path / "none")
    monkeypatch.setattr(reader_module, "PACKAGED_MODEL", tmp_path / "none")
    with pytest.raises(CheckpointError, match="holds no model"):
        default_model_folder()


@pytest.mark.parametrize("max_batch", [0, -1])
def test_an_empty_batch_is_refused(folder, max_batch):
    with pytest.raises(UsageError, match=f"max_batch must be at least 1, found {max_batch}"):
        Reader(folder, max_batch=max_batch)


def test_device_and_dtype(folder, monkeypatch):
    with pytest.raises(UsageError, match="float16"):
        Reader(folder, dtype="float16")
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(UsageError, match="device"):
            Reader(folder, device=device)
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("nanoocr.inference.reader.has_fast_bf16", lambda device: fast)  # noqa: B023
        assert choose_dtype("auto", torch.device("cpu")) == Reader(folder, device="cpu").dtype == dtype
    half = Reader(folder, device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    assert half.read(picture(), max_tokens=3).tokens.text == 3


def test_package_is_light_until_reader_is_asked_for():
    code = (
        "import sys, nanoocr; assert 'torch' not in sys.modules;"
        "from nanoocr import Reader, Page; assert 'torch' in sys.modules;"
        "print(Reader.__name__, Page.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "Reader Page\n", done.stderr
    with pytest.raises(AttributeError, match="Raeder"):
        nanoocr.Raeder  # noqa: B018


@pytest.mark.parametrize(
    ("about", "asked"), [({"prompt": "Free OCR."}, "Free OCR."), ({}, "Read."), ({"prompt": 3}, "Read.")]
)
def test_the_folder_says_what_the_model_is_asked(tmp_path, about, asked):
    save_model(tmp_path / "model", random_model(sequence_len=128), TOKENIZER, about=about)
    assert Reader(tmp_path / "model").prompt == asked
