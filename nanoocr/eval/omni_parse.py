"""Omni Parse Bench: yes/no tests of single pages, graded by the benchmark's own offline scorer.

The scorer (package omni-parse-bench, Apache-2.0) is an extra. Its rules for folding text, tables and LaTeX
are long, and scores by rules of our own would be those of another benchmark. The data set lies in a folder as
it is published: manifest.parquet, pages/NAME.pdf or .png, gold/NAME.json.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from nanoocr.config import PROMPT
from nanoocr.errors import UsageError
from nanoocr.eval.samples import EvalSample, SampleSet, collect

INSTALL = "Omni Parse Bench needs the extra, on Python 3.11 or newer: pip install 'nano-deepseek-ocr[opb]'"
NO_BLOCKS = ("blocks",)  # outputs that are not graded: places and kinds of blocks


def scorer() -> Any:
    """Import the package that scores.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("omni_parse_bench")
    except ImportError as error:
        raise UsageError(INSTALL) from error


def load_omni_parse_bench(folder: str | Path, per_group: int = 0, prompt: str = PROMPT) -> SampleSet:
    """Load every page of the data set. Its suite is its group, and its tests are its annotation.

    A gold file that breaks the benchmark's rules, even by an unknown field, is named and left out.

    Raises:
        UsageError: the scorer is not installed, the manifest is missing or of another version, or no page
            is there.
    """
    gold, folder = scorer().gold, Path(folder)
    try:
        rows = gold.manifest(folder)
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"{folder}: no manifest of Omni Parse Bench ({error})") from error

    def sample(row: Any) -> EvalSample | str:
        """One page with its tests, or the reason why it is left out."""
        picture = folder / row.doc_path
        if not picture.is_file():
            return f"{row.page_id}: {row.doc_path} is missing"
        try:
            tests = gold.tests(folder, row)
        except (OSError, ValueError) as error:
            return f"{row.page_id}: {error}"
        graded = tuple(test for test in tests if test.output_type not in NO_BLOCKS)
        if not graded:
            return f"{row.page_id}: {len(tests)} tests of layout blocks, which are not graded here"
        page = 1 if picture.suffix == ".pdf" else 0
        return EvalSample(row.page_id, picture, prompt, "", "document", (row.suite,), graded, page)

    return collect(map(sample, rows), str(folder), per_group)


def page_html(text: str) -> str:
    """Convert an answer in Markdown or plain text to HTML, with the benchmark's converter."""
    return str(importlib.import_module("omni_parse_bench.markdown").to_html(text))


def omni_parse_scores(sample: EvalSample, text: str) -> dict[str, float]:
    """The share of a page's tests that its text passes as HTML."""
    verdicts = scorer().score({"html": page_html(text)}, sample.annotation)
    passed = [verdict.result == "pass" for verdict in verdicts]
    return {"tests_passed": fmean(passed) if passed else 0.0}


def omni_parse_score(samples: Sequence[EvalSample], texts: Mapping[str, str]) -> dict[str, float]:
    """The scorer's summary: the share of all tests passed, of each type, and of each family.

    It is not the benchmark's headline score, whose third family grades layout blocks.
    """
    package = scorer()
    tests = [test for sample in samples for test in sample.annotation]
    verdicts = [v for s in samples for v in package.score({"html": page_html(texts[s.id])}, s.annotation)]
    found = package.summarize(verdicts, tests)
    families = {
        f"family_{name}": family["score"]
        for name, family in found["headline"]["families"].items()
        if family["score"] is not None
    }
    types = {
        f"passed_{name}": share for name, share in found.get("html", {}).get("per_test_type", {}).items()
    }
    return {"omni_parse_html": found["html"]["score"] if "html" in found else 0.0, **families, **types}
