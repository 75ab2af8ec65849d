"""A fresh `nanoocr read` imports little, and reads a page end to end with the model of the package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from nanoocr.inference.reader import PACKAGED_MODEL

ROOT = Path(__file__).parents[2]
NEEDLESS = (
    "torch._dynamo",
    "tyro",
    "pyarrow",
    "transformers",
    "rich",
    "pikepdf",
    "lxml",
    "matplotlib",
    "scipy",
)
TEXT = ["The ferry waits for", "nobody before noon", "Total 17.20"]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def test_the_package_alone_loads_no_torch(tmp_path):
    code = "import sys, nanoocr; nanoocr.draw, nanoocr.merge_pdf; "
    code += "print('torch' in sys.modules, 'PIL' in sys.modules)"
    assert run("-c", code, folder=tmp_path).stdout == "False False\n"


@pytest.mark.skipif(not PACKAGED_MODEL.is_dir(), reason="no model is in the package yet")
def test_reading_imports_nothing_needless(tmp_path):
    sample = ROOT / "assets" / "samples" / "card_3_lines_dark.png"
    code = (
        "import sys; from nanoocr.cli import main; code = main(sys.argv[1:]); "
        f"print([name for name in {NEEDLESS} if name in sys.modules], code, file=sys.stderr)"
    )
    done = run("-c", code, "read", "-q", str(sample), folder=tmp_path)
    assert done.stderr == "[] 0\n"


def packaged_reads_lines() -> bool:
    config = PACKAGED_MODEL / "config.json"
    views = json.loads(config.read_text())["model"]["views"] if config.is_file() else []
    return bool(views) and all(height == 64 for height, _ in views)


def draw_page(path: Path) -> None:
    image = Image.new("L", (900, 500), 255)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(30)
    for number, text in enumerate(TEXT):
        pen.text((80, 100 + 80 * number), text, font=font, fill=0)
    image.save(path)


@pytest.mark.skipif(not packaged_reads_lines(), reason="the model in the package reads whole pictures")
def test_a_page_is_read_end_to_end(tmp_path):
    draw_page(tmp_path / "page.png")
    arguments = ["read", "page.png", "--format=txt,json,pdf", "-o", "out/", "--overlay=look"]
    done = run("-m", "nanoocr", *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/page.txt").read_text().split() == " ".join(TEXT).split()
    (page,) = json.loads((tmp_path / "out/page.json").read_text())["pages"]
    assert [line["text"] for line in page["lines"]] == TEXT
    for number, line in enumerate(page["lines"]):
        top, bottom = line["quad"][0][1], line["quad"][2][1]
        assert 90 + 80 * number < top < bottom < 150 + 80 * number
        assert line["quad"][0][0] == pytest.approx(80, abs=8)
    assert (tmp_path / "out/page.pdf").stat().st_size < 5_000 + (tmp_path / "page.png").stat().st_size
    assert (tmp_path / "look/page.overlay.png").is_file()
