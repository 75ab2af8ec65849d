"""The whole text that other people's PDF readers get out of a file."""

import io
import shutil
import subprocess

import pytest

pdfium = pytest.importorskip("pypdfium2")


def read_with_pdfium(content):
    return "\n".join(page.get_textpage().get_text_range() for page in pdfium.PdfDocument(content))


def read_with_pdfminer(content):
    return pytest.importorskip("pdfminer.high_level").extract_text(io.BytesIO(content))


def read_with_pdftotext(content, *flags):
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    command = ["pdftotext", *flags, "-", "-"]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout.decode()


def read_with_pdftotext_raw(content):
    return read_with_pdftotext(content, "-raw")


def read_with_mupdf(content):
    return "\n".join(page.get_text() for page in pytest.importorskip("pymupdf").open(stream=content))


READERS = [
    read_with_pdfium,
    read_with_pdfminer,
    read_with_pdftotext,
    read_with_pdftotext_raw,
    read_with_mupdf,
]
