#!/bin/sh
# OCRmyPDF's sandwich renderer loses the text of an engine whose text-only PDF has its page's content in an
# array of streams, with exit code 0 and no message; and it ends with code 15 where that PDF's font is a direct
# object of the page's resources. Both are valid PDF.
#
# The engine below writes the same hidden words in three ways. Ends with 0 as long as only the first gives
# them back, else with 1. Needs tesseract on the path, which OCRmyPDF asks for whatever the engine is.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet ocrmypdf==17.13.0 pikepdf==10.18.0 pypdfium2==5.15.2
cat > engine.py <<'PYTHON'
import os

import pikepdf
from ocrmypdf import hookimpl
from ocrmypdf.builtin_plugins.null_ocr import NullOcrEngine
from PIL import Image


class Engine(NullOcrEngine):
    @staticmethod
    def supports_generate_ocr():
        return False

    @staticmethod
    def generate_pdf(input_file, output_pdf, output_text, options):
        with Image.open(input_file) as image:
            width, height = (side * 72 / image.info["dpi"][0] for side in image.size)
        kind = os.environ["KIND"]
        document = pikepdf.new()
        document.add_blank_page(page_size=(width, height))
        page = document.pages[0].obj
        font = pikepdf.Dictionary(
            Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica
        )
        font = font if kind == "direct font" else document.make_indirect(font)
        page.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=font))
        stream = document.make_stream(b"BT 3 Tr /F1 12 Tf 30 30 Td (hidden words) Tj ET")
        page.Contents = pikepdf.Array([stream]) if kind == "content array" else stream
        document.save(output_pdf)
        output_text.write_text("hidden words")


@hookimpl
def get_ocr_engine(options):
    return Engine()
PYTHON
cat > show.py <<'PYTHON'
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pypdfium2
from PIL import Image

Image.new("L", (600, 400), 255).save("in.pdf", resolution=150)
print("ocrmypdf", importlib.metadata.version("ocrmypdf"))
command = [sys.executable, "-m", "ocrmypdf", "--plugin", "engine.py", "--pdf-renderer", "sandwich"]
command += ["--output-type", "pdf", "in.pdf", "out.pdf"]
as_known = True
for kind, *expected in (("usual", 0, "hidden words"), ("content array", 0, ""), ("direct font", 15, None)):
    Path("out.pdf").unlink(missing_ok=True)
    done = subprocess.run(command, env={**os.environ, "KIND": kind}, capture_output=True, text=True)
    text = None
    if Path("out.pdf").exists():
        text = pypdfium2.PdfDocument("out.pdf")[0].get_textpage().get_text_range()
    print(f"{kind}: exit {done.returncode}, text {text!r}, last line of stderr: {done.stderr.splitlines()[-1]!r}")
    as_known &= [done.returncode, text] == expected
print("as known" if as_known else "this has changed")
sys.exit(not as_known)
PYTHON
venv/bin/python show.py
