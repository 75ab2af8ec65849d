"""The model in the package: it loads, it reads the samples, and it looks at the picture."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from nanoocr import Page, Reader
from nanoocr.eval.metrics import corpus_character_error_rate, word_overlap
from nanoocr.inference.reader import PACKAGED_MODEL
from scripts import read_samples
from scripts.dev.ship_model import LIMIT, without_places
from scripts.read_samples import pictures_with_truth

pytestmark = pytest.mark.skipif(not PACKAGED_MODEL.is_dir(), reason="no model is in the package yet")

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "assets" / "samples"


@pytest.fixture(scope="module")
def reader():
    return Reader()


@pytest.fixture(scope="module")
def pages(reader) -> list[Page]:
    return reader.read([str(path) for path, _ in pictures_with_truth(SAMPLES)])


@pytest.fixture(scope="module")
def truths() -> list[str]:
    return [truth for _, truth in pictures_with_truth(SAMPLES)]


def test_it_is_small_enough_and_has_a_card():
    folder = PACKAGED_MODEL
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LIMIT
    assert "What it cannot do" in (folder / "MODEL_CARD.md").read_text()


def test_it_tells_how_it_was_made_but_not_where():
    run = json.loads((PACKAGED_MODEL / "config.json").read_text())["about"]["run"]
    assert run["steps"] and not [value for value in run.values() if str(value).startswith("/")]
    flags = {"out": "/a", "init": "/a/all/step_001000", "data": "rows.json", "steps": 9}
    assert without_places(flags) == {"init": "all/step_001000", "data": "rows.json", "steps": 9}


def test_it_reads_the_samples(pages, truths):
    assert all(page.status == "ok" for page in pages)
    assert corpus_character_error_rate([page.text for page in pages], truths) < 0.15


def test_the_readme_shows_what_is_read_and_counts_its_errors():
    readme = (ROOT / "README.md").read_text()
    told = re.search(
        r"prints with the model.*?, (\d+) of (\d+) characters wrong.*?```\n(.*?)\n```", readme, re.DOTALL
    )
    assert told, "README.md: write how many characters of the receipt are wrong, and what is read"
    page = Reader(dtype="float32").read(ROOT / "assets" / "pages" / "receipt.jpg")
    # Another processor rounds differently, which may change a letter that is doubtful.
    assert isinstance(page, Page) and corpus_character_error_rate([page.text], [told[3]]) < 0.01
    # Blank lines part blocks, and are no text.
    lines = "\n".join(line for line in told[3].splitlines() if line)
    truth = (ROOT / "assets" / "pages" / "receipt.txt").read_text().strip()
    wrong = round(corpus_character_error_rate([lines], [truth]) * len(truth))
    assert (int(told[1]), int(told[2])) == (wrong, len(truth))


def test_it_looks_at_the_picture(pages, truths):
    right = [word_overlap(page.text, truth) for page, truth in zip(pages, truths)]
    wrong = [word_overlap(page.text, truth) for page, truth in zip(pages, truths[1:] + truths[:1])]
    assert sum(right) / len(right) - sum(wrong) / len(wrong) > 0.6


def test_a_blank_picture_gives_none_of_the_samples(reader, truths):
    page = reader.read(Image.new("RGB", (256, 128), "white"))
    assert max(word_overlap(page.text, truth) for truth in truths) < 0.5


def test_a_strip_that_was_read_to_know_what_is_up_is_not_read_again(reader, monkeypatch):
    asked = []
    generate = type(reader.engine).generate

    def counted(engine, requests, *arguments, **options):
        asked.append(len(requests))
        return generate(engine, requests, *arguments, **options)

    monkeypatch.setattr(type(reader.engine), "generate", counted)
    page = reader.read(SAMPLES / "card_1_line_dark.png")  # one line, and the finder doubts its way up
    assert page.text and asked == [1]


def test_the_quickstart_prints_every_picture_and_its_error_rate(capsys):
    assert read_samples.main([f"--folder={SAMPLES}"]) == 0
    printed = capsys.readouterr().out
    assert all(path.name in printed for path, _ in pictures_with_truth(SAMPLES))
    assert "character error rate" in printed
