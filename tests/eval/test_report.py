"""The report: what it shows, that nothing a model says can act in it, and how it looks in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from io import BytesIO

import pytest
from PIL import Image

from nanoocr.commandline import run
from nanoocr.eval.catalogue import BENCHMARKS
from nanoocr.eval.compression import PAPER_CURVES
from nanoocr.eval.evaluate import RESULTS, show
from nanoocr.eval.report import (
    SHOWN,
    Code,
    Figure,
    Heading,
    Paragraph,
    Piece,
    Rows,
    Sample,
    differences,
    fenced,
    markdown_table,
    pictures_of,
    to_html,
    to_markdown,
    visible,
)
from nanoocr.eval.samples import EvalSample
from nanoocr.eval.store import Prediction
from nanoocr.eval.summary import by_group, score_pages, summarise
from scripts import report as script
from tests.eval.test_run_log import train, validation

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def png(colour: str = "red") -> bytes:
    stored = BytesIO()
    Image.new("RGB", (60, 30), colour).save(stored, "PNG")
    return stored.getvalue()


# pieces


def test_differences_by_hand():
    assert differences("hello world", "hello word") == [
        Piece("same", "hello wor"),
        Piece("missing", "l"),
        Piece("same", "d"),
    ]
    assert differences("abcd", "abXd")[1:3] == [Piece("missing", "c"), Piece("extra", "X")]
    assert differences("same", "same") == [Piece("same", "same")]
    assert differences("some words here", "9 13 42") == [
        Piece("missing", "some words here"),
        Piece("extra", "9 13 42"),
    ]
    assert differences("", "x") == [Piece("extra", "x")] and differences("", "") == []


def test_invisible_characters_are_shown():
    assert visible("a\0b\u202ec\td\ne\ufeff") == "a[U+0000]b[U+202E]c\td\ne[U+FEFF]"


def test_a_fence_is_longer_than_what_it_holds():
    assert fenced("x ``` y") == "````\nx ``` y\n````"
    assert markdown_table(("a", "b"), [["x|y", "1\n2"]]).splitlines()[2] == "| x\\|y | 1 2 |"


# pages

BLOCKS = (
    Heading("Results <here>"),
    Paragraph(f"it said {EVIL}"),
    Code("python -m x --y='<z>'"),
    Rows(("name", "value"), (("a|b", "1 < 2"),)),
    Figure("curve.png", png(), "a curve"),
    Sample("page 1", "one.png", png("blue"), "hello world", {"right": f"hello {EVIL}", "wrong": "`code`"}),
    Sample("page 2", "", None, "x" * (SHOWN + 7), {}),
)


def test_the_page_escapes_everything_and_fetches_nothing():
    page = to_html(f"Title {EVIL}", BLOCKS)
    tags = {tag.lower() for tag in re.findall(r"<([a-zA-Z0-9]+)", page)}
    assert "script" not in tags and "link" not in tags
    assert page.count("<img") == 3 - 1 == page.count('src="data:image/png;base64,')
    assert "&lt;script&gt;" in page and "Results &lt;here&gt;" in page
    assert "default-src 'none'" in page
    assert "... and 7 characters more" in page and "(no picture)" in page


def test_an_answer_is_coloured_only_against_its_own_picture():
    page = to_html("t", [Sample("p", "", None, "abcd", {"right": "abXd", "wrong": "zzzz"})])
    assert "ab<del>c</del><ins>X</ins>d" in page
    assert "<pre>zzzz</pre>" in page


def test_the_markdown_shows_text_as_text_and_names_its_pictures():
    text = to_markdown("A *title*", BLOCKS, "report_files")
    assert text.startswith("# A \\*title\\*\n")
    assert "it said &lt;script&gt;" in text
    assert "![a curve](report_files/curve.png)" in text and "(report_files/one.png)" in text
    assert f"```\nhello {EVIL}\n```" in text and "```\n`code`\n```" in text
    assert "| a\\|b | 1 &lt; 2 |" in text
    assert set(pictures_of(BLOCKS)) == {"curve.png", "one.png"}


# the script


@pytest.fixture
def measured(tmp_path):
    """Folders as the other scripts leave them: an evaluation, a curve, peers, and a run."""
    red = Image.new("RGB", (40, 20), "red")
    samples = [EvalSample(f"card/{i}", red, "Read.", f"text {i}", "card", ("card",)) for i in range(3)]
    given = {"card/0": Prediction("text 0", "ok"), "card/1": Prediction(EVIL, "truncated")}
    pages = score_pages(samples, {"right": given, "wrong": {}}, BENCHMARKS["folder"])
    groups = {name: summarise(group) for name, group in by_group(pages).items()}
    evaluation = tmp_path / "eval"
    evaluation.mkdir()
    results = {
        "model": "shipped", "benchmark": "folder", "data": "cards", "about": {"engine": EVIL},
        "machine": {"cpu": "x"}, "command": "python -m scripts.vision_eval --out=eval",
        "groups": groups, "set_scores": {"right": {"text_edit": 0.5}},
        "left_out": [], "missing": ["card/2"], "unknown": [EVIL], "notes": [],
        "shown": [entry for g, p in by_group(pages).items() for entry in show(g, p, evaluation)],
    }  # fmt: skip
    (evaluation / RESULTS).write_text(json.dumps(results))
    numbers = {"mean": 0.5, "low": 0.4, "high": 0.6, "median": 0.5}
    point = {
        "from": 1.0, "to": 2.0, "pages": 3, "ratio": 1.5, "text_tokens": 30.0, "precision": numbers,
        "phase": "unstable", "characters": 3.0, "vision_tokens": 20.0,
        "cer": numbers, "corpus_cer": 0.5, "catastrophic": 0.0, "truncated": 0.0,
    }  # fmt: skip
    curve = {
        "model": "models/tiny", "left_out": ["one page"],
        "curves": {"64x128": [point, {**point, "ratio": 2.5}]},
        "paper": {str(k): [p._asdict() for p in v] for k, v in PAPER_CURVES.items()},
    }  # fmt: skip
    engine = {"about": {"version": "5.3", "weights_bytes": 10**6}, "groups": groups}
    cost = {
        "pages": 2,
        "failed": 0,
        "start_seconds": 1.0,
        "seconds_per_page": 0.5,
        "peak_bytes": 10**8,
        "threads": 1,
    }
    peers = {
        "sets": {"synthetic": {"engines": {"a": engine, "b": engine}, "costs": {"a": cost}, "left_out": []}},
        "absent": {"c": "install it"},
    }
    for name, data in (("curve", curve), ("peers", peers)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.json").write_text(json.dumps(data))
    (tmp_path / "nano_run").mkdir()
    lines = [train(1), train(2), validation(2), validation(4)]
    (tmp_path / "nano_run/metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


@pytest.fixture
def page(measured, capsys):
    """The report of everything."""
    evaluations = [f"--eval={measured / name}" for name in ("eval", "curve", "peers")]
    out = measured / "reports" / "all.html"
    assert run(script.main, [f"--run={measured / 'nano_run'}", *evaluations, f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    return out


def test_the_report_holds_every_part(page):
    text, markdown = page.read_text(), page.with_suffix(".md").read_text()
    for part in (
        "Training: nano_run", "validation at step 4", "effective rank", "Evaluation: shipped on folder cards",
        "fox_precision_official", "missing, 1: card/2", "Compression curve: models/tiny", "600-700",
        "Beside other engines", "b has the best score in: all, card.", "c was not measured: install it",
        "python -m scripts.vision_eval --out=eval", "python -m scripts.report", "torch",
        "read from another picture", "right picture", "text_edit",
    ):  # fmt: skip
        assert part in text, part
        assert part.replace("_", "\\_") in markdown or part in markdown, part
    assert "<script" not in text and "http://" not in text and "https://" not in text
    assert (
        text.count("data:image/png") == 2 + 2
    )  # a run, a curve, and the two pages that are worst and median
    shown = re.findall(r"\]\((all_files/[^)]+)\)", markdown)
    assert len(shown) == 4 and all((page.parent / name).is_file() for name in shown)


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium here")
def test_a_browser_shows_the_page_and_runs_nothing_in_it(page, tmp_path):
    def browse(*flags: str) -> str:
        always = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}")
        command = [BROWSER, *always, "--window-size=1000,3000", *flags, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    document = browse("--dump-dom")
    assert (
        "<title>nano-deepseek-ocr: report</title>" in document
        and "owned&#39;" not in document.split("<body>")[0]
    )
    assert "<script" not in document and "&lt;script&gt;" in document
    browse(f"--screenshot={tmp_path / 'shot.png'}")
    colours = Image.open(tmp_path / "shot.png").convert("RGB").getcolors(1 << 24)
    found = {colour for _, colour in colours}
    assert (255, 0, 0) in found  # the pages' red pictures are shown
    assert {(0xFF, 0xD3, 0xD0), (0xCF, 0xE8, 0xFF)} <= found  # missing and surplus letters have their colours


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], "--run=DIR or --eval=DIR"),
        (["--eval={tmp}/nowhere"], "nowhere"),
        (["--eval={tmp}/broken"], "not JSON"),
        (["--eval={tmp}/list"], "holds no results"),
        (["--eval={tmp}/old"], "measure again"),
        (["--run={tmp}/broken"], "metrics.jsonl"),
        (["--eval={tmp}/peers", "--out={tmp}/report.pdf"], ".html"),
    ],
)
def test_report_mistakes(flags, named, measured, capsys):
    for name, content in (("broken", "{"), ("list", "[]"), ("old", '{"groups": {"all": {}}}')):
        (measured / name).mkdir()
        (measured / name / RESULTS).write_text(content)
    assert run(script.main, [flag.format(tmp=measured) for flag in flags]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1
