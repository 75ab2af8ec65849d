"""The command on a folder of small files, for the tests of the command line."""

from __future__ import annotations

import pytest

from nanoocr.model.folder import save_model
from tests.inference.encoded_files import encoded, encrypted_pdf, huge_png, pdf, picture
from tests.inference.engine_requests import TOKENIZER, random_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder, random_model(sequence_len=128), TOKENIZER)
    return folder


@pytest.fixture
def files(tmp_path):
    """Good and bad files, and the working directory in which they are named."""
    contents = {
        "a.png": encoded(picture(0)),
        "b.jpg": encoded(picture(1), "JPEG"),
        "text.png": b"not a picture",
        "cut.png": encoded(picture(0))[:200],
        "zero.png": b"",
        "huge.png": huge_png(),
        "locked.pdf": encrypted_pdf(),
        "two.pdf": pdf((200, 90), (90, 200)),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path
