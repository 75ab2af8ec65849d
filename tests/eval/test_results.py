"""The page of results: one script writes it, and its cells come out of the stored answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from nanoocr.commandline import run
from nanoocr.eval.peers import PEERS
from nanoocr.eval.result_tables import SECTIONS, Column, cell
from scripts import results as script

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data" / "fox_pages"


TEXTS = {"a": "TOTAL 12.50\nthank you", "b": "Fresh fish daily", "c": "no 7 Elm Street"}


class Reads:
    """Says about a picture of one grey what `texts` holds for it."""

    name = "reads"

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = list(texts.values())

    def read(self, image, kind):
        return self.texts[image.getpixel((0, 0))[0] // 40 - 1]

    def about(self):
        return {"version": "1", "weights_bytes": 7}


@pytest.fixture
def data(tmp_path):
    """Fox's three settings, three pages each, in the form of the real folder."""
    fox = tmp_path / "data" / "fox_pages"
    rows = []
    for kind in ("original", "rendered", "random"):
        (fox / kind).mkdir(parents=True)
        for number, (name, text) in enumerate(TEXTS.items(), start=1):
            Image.new("RGB", (60, 40), (40 * number,) * 3).save(fox / kind / f"{name}.png")
            (fox / kind / f"{name}.txt").write_text(text)
            rows.append(
                {"kind": kind, "id": name, "image": f"{kind}/{name}.png", "text": f"{kind}/{name}.txt"}
            )
    (fox / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "data"


def table_rows(page: str, title: str) -> dict[str, dict[str, str]]:
    """The first table below a heading whose first title is `title`: first cell -> title -> cell."""
    lines = iter(page.splitlines())
    head = next(line for line in lines if line.startswith(f"| {title} |"))
    names = [name.strip() for name in head.strip("|").split("|")]
    next(lines)
    found = {}
    for line in lines:
        if not line.startswith("|"):
            return found
        cells = [value.strip() for value in line.strip("|").split("|")]
        found[cells[0]] = dict(zip(names, cells))
    return found


def precision(answer: str, truth: str) -> float:
    """Right words / words said, by hand; 0 where nothing was said."""
    said, wanted = set(answer.split()), set(truth.split())
    return len(said & wanted) / max(len(said), 1)


def test_three_cells_come_out_of_the_stored_answers(data, monkeypatch, tmp_path, capsys):
    """Answers that are wrong by hand: a word too much on one page, and in capitals on another."""
    flawed = {**TEXTS, "a": TEXTS["a"] + " invented", "b": TEXTS["b"].upper()}
    peer = Reads(flawed)
    for name in ("tesseract", "rapidocr_960", "ppocr_tiny"):
        monkeypatch.setitem(PEERS, name, lambda threads: peer)
    out, page, answers = tmp_path / "r.json", tmp_path / "r.md", tmp_path / "answers"
    flags = [
        f"--data={data}",
        "--only=random",
        "--ours=False",
        f"--answers={answers}",
        f"--out={out}",
        f"--markdown={page}",
    ]
    assert run(script.main, flags) == 0
    text = page.read_text()
    right = answers / "tesseract"
    stored = {
        kind: {name: (right / f"fox_{kind}" / "right" / f"{name}.txt").read_text() for name in TEXTS}
        for kind in ("original", "rendered", "random")
    }
    mean = sum(precision(stored["rendered"][name], TEXTS[name]) for name in TEXTS) / 3
    row = table_rows(text, "system")["tesseract"]
    assert row["natural, with case"] == f"{mean:.3f}" != "1.000"
    assert row["drop, with case"] == "0.000" and row["pages"] == "3"
    free = sum(precision(stored["original"][n].casefold(), TEXTS[n].casefold()) for n in TEXTS) / 3
    assert row["natural, without"] == f"{free:.3f}"
    assert "Commit " in text and "`python -m scripts.measure_pages" in text and "fox_random" in text
    sets = json.loads(out.read_text())["sections"]["random"]["sets"]
    assert sets["fox_random"]["scored_ids"] == list(TEXTS)
    assert run(script.main, [*flags, "--read=False", "--limit=1"]) == 0  # scores what is there
    assert run(script.main, [*flags, "--only=nothing"]) == 2
    assert "choose among tier3" in capsys.readouterr().err


def test_a_cell_has_its_control_in_brackets_and_a_median_none():
    scores = {"mean": {"cer_free": 0.1}, "median": {"cer_free": 0.05}, "control": {"cer_free": 0.9}}
    result = {"scores": scores, "extra": {"teds": 0.5}, "extra_control": {"teds": 0.2}}
    assert cell(result, Column("", "", "cer_free")) == "0.100 (0.900)"
    assert cell(result, Column("", "", "cer_free", "median")) == "0.050"
    assert cell(result, Column("", "", "teds", "extra")) == "0.500 (0.200)"
    assert cell({}, Column("", "", "teds", "extra")) == cell({}, Column("", "", "cer_free")) == "-"


def test_every_column_is_of_a_set_that_its_table_measures():
    for section in SECTIONS.values():
        assert {column.set_name for column in section.columns} <= set(section.sets)


@pytest.mark.skipif(not (SHARED / "answers").is_dir(), reason="the published answers are not here")
@pytest.mark.parametrize("system", ["deepseek_ocr_100", "deepseek_ocr_64", "smoldocling"])
def test_the_page_in_the_repository_agrees_with_the_published_answers(system):
    if not (ROOT / "docs" / "results.json").is_file():
        pytest.skip("docs/results.json is not written yet")
    results = json.loads((ROOT / "docs" / "results.json").read_text())
    ids = results["sections"]["random"]["sets"]["fox_random"]["scored_ids"]
    row = table_rows((ROOT / "docs" / "results.md").read_text(), "system")[f"published: {system}"]
    for kind, title in (("rendered", "natural, with case"), ("random", "random, with case")):
        parts = (f"answers/{system}", ".")
        pairs = [[(SHARED / part / kind / f"{name}.txt").read_text() for part in parts] for name in ids]
        mean = sum(precision(*pair) for pair in pairs) / len(pairs)
        assert row[title] == f"{mean:.3f}"
