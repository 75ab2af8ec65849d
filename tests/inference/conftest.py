"""A random model in a folder, and its reader."""

from __future__ import annotations

import pytest

from nanoocr.inference.reader import Reader
from nanoocr.model.folder import save_model
from tests.inference.engine_requests import TOKENIZER, random_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder, random_model(sequence_len=128), TOKENIZER)
    return folder


@pytest.fixture(scope="module")
def reader(folder):
    return Reader(folder, device="cpu", max_batch=3)
