"""Reader, Page and the sources: what comes in, in which form it comes out, and what is refused."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import threading

import pytest
import torch

import nanoocr
from nanoocr.errors import CheckpointError, PictureError, UsageError
from nanoocr.inference import reader as reader_module
from nanoocr.inference.engine import TokenCount
from nanoocr.inference.reader import Page, Reader, choose_dtype, default_model_folder
from nanoocr.inference.sampling import SamplingConfig
from nanoocr.model.folder import save_model
from tests.inference.encoded_files import encoded, encrypted_pdf, huge_png, pdf, picture
from tests.inference.engine_requests import TOKENIZER, random_model


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
