"""Omni Parse Bench, against the scorer that publishes it: skipped where that is not installed."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nanoocr.commandline import run
from nanoocr.errors import UsageError
from nanoocr.eval import omni_parse
from nanoocr.eval.catalogue import BENCHMARKS, Selection
from scripts import vision_eval

PRICES = "| Fruit | Price |\n|---|---|\n| Pear | 3.20 |\n| Plum | 4.10 |"
LETTER = "# Summary\n\nRevenue rose by 12 % in spring.\n\n# Outlook\n\nNobody knows."


def claim(name: str, kind: str, args: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One test of a gold file."""
    reads = {"output_type": "blocks" if kind == "layout_kind" else "html", "derivation": "authored"}
    return {"id": name, "test_type": kind, **reads, "tags": ["eng"], "args": args, "settings": {}, **more}


def words(text: str) -> dict[str, Any]:
    return {"text": text, "max_diffs": 0}


PAGES = {
    "letter": [
        claim("l0", "present", {"content": words("Revenue rose by 12 % in spring.")}),
        claim("l1", "order", {"before": words("Summary"), "after": words("Outlook")}),
    ],
    "prices": [
        claim("p0", "table_cell", {"cell": words("4.10"), "headings": [words("Price")]}),
        claim("p1", "table_cell", {"cell": words("3.20"), "left": words("Pear")}),
    ],
    "blocks": [
        claim(
            "b0",
            "layout_kind",
            {"content": {**words("Summary"), "place": [[0.1, 0.1, 0.5, 0.2]]}},
            settings={"kind": "heading"},
        )
    ],
    "newer": [{**claim("n0", "present", {"content": words("x")}), "colour": "red"}],
}


def write_set(folder: Path) -> Path:
    """A data set of four pages in the published form, all drawn and claimed here."""
    parquet, table = importlib.import_module("pyarrow.parquet"), importlib.import_module("pyarrow").table
    (folder / "pages").mkdir(parents=True)
    (folder / "gold").mkdir()
    rows = []
    for number, (name, claims) in enumerate(PAGES.items()):
        Image.new("RGB", (64, 64), (250 - number, 250, 250)).save(folder / "pages" / f"{name}.png")
        (folder / "gold" / f"{name}.json").write_text(json.dumps({"tests": claims}))
        paths = {"doc_path": f"pages/{name}.png", "gt_path": f"gold/{name}.json"}
        outputs = sorted({claimed["output_type"] for claimed in claims})
        rows.append({"page_id": name, "document": name, "suite": "own", **paths, "outputs": outputs})
    parquet.write_table(
        table({key: [row[key] for row in rows] for key in rows[0]}), folder / "manifest.parquet"
    )
    return folder


@pytest.fixture
def data(tmp_path):
    pytest.importorskip("omni_parse_bench", reason="the extra opb is not installed")
    return write_set(tmp_path / "set")


def test_pages_whose_tests_can_be_graded_are_read_and_the_others_named(data):
    loaded = BENCHMARKS["omni_parse_bench"].load(Selection(str(data)))
    assert [(s.id, s.groups, len(s.annotation)) for s in loaded.samples] == [
        ("letter", ("own",), 2),
        ("prices", ("own",), 2),
    ]
    left_out = sorted(loaded.left_out)
    assert left_out[0].startswith("blocks: 1 tests of layout blocks")
    assert "newer" in left_out[1] and "colour" in left_out[1]


@pytest.mark.parametrize(
    ("name", "answer", "share"),
    [
        ("letter", LETTER, 1.0),
        ("letter", "Outlook\n\nSummary\n\nRevenue rose by 12 % in spring.", 0.5),
        ("letter", "", 0.0),
        ("prices", PRICES, 1.0),
        ("prices", PRICES.replace("| Pear |", "| Pea |"), 0.5),
        ("prices", "Fruit Price Pear 3.20 Plum 4.10", 0.0),  # the words alone are no table
    ],
)
def test_a_page_scores_the_share_of_its_tests(data, name, answer, share):
    samples = {s.id: s for s in BENCHMARKS["omni_parse_bench"].load(Selection(str(data))).samples}
    assert omni_parse.omni_parse_scores(samples[name], answer) == {"tests_passed": share}


def test_the_scores_of_the_set_are_numbers_and_those_of_the_scorer(data):
    samples = BENCHMARKS["omni_parse_bench"].load(Selection(str(data))).samples
    texts = {"letter": LETTER, "prices": PRICES.replace("| Pear |", "| Pea |")}
    assert omni_parse.omni_parse_score(samples, texts) == {
        "omni_parse_html": 0.75,
        "family_text": 1.0,
        "family_tables": 0.5,
        "passed_present": 1.0,
        "passed_order": 1.0,
        "passed_table_cell": 0.5,
    }


def test_the_whole_way_with_answers_of_others(data, tmp_path, capsys):
    (tmp_path / "said").mkdir()
    for name, answer in (("letter", LETTER), ("prices", PRICES)):
        (tmp_path / "said" / f"{name}.md").write_text(answer)
    flags = ["--benchmark=omni_parse_bench", f"--data={data}", f"--predictions={tmp_path / 'said'}"]
    assert run(vision_eval.main, [*flags, f"--out={tmp_path / 'out'}"]) == 0
    printed = capsys.readouterr().out
    assert "omni_parse_html" in printed and json.loads(printed.splitlines()[-1])


def test_without_the_scorer_one_sentence_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "omni_parse_bench", None)
    with pytest.raises(UsageError, match="nano-deepseek-ocr\\[opb\\]"):
        BENCHMARKS["omni_parse_bench"].load(Selection(str(tmp_path)))
