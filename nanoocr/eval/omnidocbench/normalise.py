r"""What is compared after matching: texts without blanks and punctuation, formulas without layout.

Behaviour from opendatalab/OmniDocBench (`utils/data_preprocess.py`); v1.5 strips more from formulas. Two
quirks of the text normalisation are kept: the pairs \t, \n, /t and /n vanish ("and/then" becomes "andhen"),
and case stays. The normalisation of tables is in `nanoocr.eval.teds`.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache

from rapidfuzz.distance import Levenshtein

from nanoocr.errors import UsageError
from nanoocr.eval.omnidocbench.extract import Version
from nanoocr.eval.omnidocbench.scan import delimited, replace_enclosed

INLINE = [("$", "$"), (r"\(", r"\)")]
ESCAPED = re.compile(r"\\[\\_&%^]")
VANISHING = ("\\t", "\\n", "\t", "\n", "/t", "/n")
NO_WORD = re.compile("[^\\w\u4e00-\u9fff]")

# Removed from formulas in this order, wherever they stand (so \text takes a part of \textit with it).
FONTS = (
    r"\mathbf \mathrm \mathnormal \mathit \mathbb \mathcal \mathscr \mathfrak \mathsf \mathtt \textbf \text"
)
FONTS += r" \boldmath \boldsymbol \operatorname \bm \symbfit \mathbfcal \symbf \scriptscriptstyle"
SPACING = r"\notag \setlength \coloneqq \space \thickspace \thinspace \medspace \nobreakspace \negmedspace"
SPACING += r" \quad \qquad \enspace \substackw"
SIZING = r"$$ \left \right \displaystyle \text"
REMOVED = {
    "1.0": (*FONTS.split(), *SPACING.split(), " "),
    "1.5": (*FONTS.split(), *SPACING.split(), " ", *SIZING.split()),
}
BRACKETED = re.compile(r"\\\[(.+?)(?<!\\)\\\]")
MACROS = [re.compile(pattern) for pattern in (r"\\tag\{", r"\\hspace\{", r"\\begin\{", r"\\end\{")]
COLUMN_SEPARATION = re.compile(r"\\arraycolsep")
# What pylatexenc raises on broken input; the official code lets the formula stand then.
LATEX_ERRORS = (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError)


def normalise_text(text: str) -> str:
    """Only the word characters (any script, digits, underscore), inline formulas as Unicode first."""
    return word_characters(formulas_to_unicode(text))


def word_characters(text: str) -> str:
    """A text without anything but word characters."""
    for pair in VANISHING:
        text = text.replace(pair, "")
    return NO_WORD.sub("", text)


def formulas_to_unicode(text: str) -> str:
    r"""Inline formulas that hold a backslash, ^ or _ as plain Unicode; others stay with their dollars."""
    parts, place = [], 0
    for span in delimited(text, INLINE, one_line=True):
        latex = ESCAPED.sub("", text[span.inner_start : span.inner_end])
        if not any(mark in latex for mark in "\\^_"):
            continue
        # A lone backslash at the end would escape what follows.
        plain = latex_to_unicode(latex + " " if latex.endswith("\\") else latex)
        if plain is not None:
            parts += [text[place : span.start], plain.strip()]
            place = span.end
    return "".join([*parts, text[place:]])


@lru_cache(maxsize=10_000)  # a model that loops writes one formula thousands of times
def latex_to_unicode(latex: str) -> str | None:
    """LaTeX as plain text, None where it cannot be read.

    Raises:
        UsageError: pylatexenc is not installed.
    """
    try:
        from pylatexenc.latex2text import LatexNodes2Text
        from pylatexenc.latexwalker import LatexWalkerError
    except ImportError as error:
        raise UsageError("OmniDocBench needs the extra: pip install 'nano-deepseek-ocr[eval]'") from error
    # It warns about every odd formula, and there is nothing that could be mended.
    logging.getLogger("pylatexenc").setLevel(logging.ERROR)
    try:
        return str(LatexNodes2Text().latex_to_text(latex))
    except (LatexWalkerError, *LATEX_ERRORS):
        return None


def normalise_formula(latex: str, version: Version = "1.5") -> str:
    """A formula without delimiters, tags, environments, fonts, spacing and case."""
    text = latex.strip().strip("$").strip("\n") if version == "1.5" else latex
    bracketed = BRACKETED.search(text) if r"\]" in text else None
    if bracketed:
        text = bracketed.group(1).strip()
    for macro in MACROS:
        text = replace_enclosed(text, macro, "}", lambda _: "", one_line=True)
    text = replace_enclosed(text, COLUMN_SEPARATION, "}", lambda _: "", one_line=True)
    text = text.strip(".")
    for command in REMOVED[version]:
        text = text.replace(command, "")
    return text.lower()


def formula_edit_distance(prediction: str, truth: str) -> float:
    """Levenshtein / longer length of two normalised formulas, in [0, 1]; 0 when nothing is left of both.

    OmniDocBench's second measure of formulas; the first, CDM, compares them drawn with TeX.
    """
    found, wanted = normalise_formula(prediction), normalise_formula(truth)
    return Levenshtein.normalized_distance(found, wanted)
