r"""Normalises matched texts and formulas: texts lose blanks and punctuation, formulas lose layout.

It behaves as opendatalab/OmniDocBench (`utils/data_preprocess.py`); v1.5 removes more from formulas. Two
quirks of its text normalisation are kept: the pairs \t, \n, /t and /n vanish ("and/then" becomes "andhen"),
and case stays. Tables are normalised in `nanoocr.eval.teds`.
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

# Removed from formulas in this order, wherever they stand (so \text removes a part of \textit).
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
# pylatexenc raises these on broken input; the official code then keeps the formula.
LATEX_ERRORS = (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError)


def normalise_text(text: str) -> str:
    """Turn inline formulas into Unicode, then keep only word characters (any script, digits, underscore)."""
    return word_characters(formulas_to_unicode(text))


def word_characters(text: str) -> str:
    """Remove everything but word characters from a text."""
    for pair in VANISHING:
        text = text.replace(pair, "")
    return NO_WORD.sub("", text)


def formulas_to_unicode(text: str) -> str:
    r"""Turn inline formulas with a backslash, ^ or _ into plain Unicode; others keep their dollars."""
    parts, place = [], 0
    for span in delimited(text, INLINE, one_line=True):
        latex = ESCAPED.sub("", text[span.inner_start : span.inner_end])
        if not any(mark in latex for mark in "\\^_"):
            continue
        # A lone backslash at the end would escape the next character.
        plain = latex_to_unicode(latex + " " if latex.endswith("\\") else latex)
        if plain is not None:
            parts += [text[place : span.start], plain.strip()]
            place = span.end
    return "".join([*parts, text[place:]])


@lru_cache(maxsize=10_000)  # a looping model writes the same formula thousands of times
def latex_to_unicode(latex: str) -> str | None:
    """Convert LaTeX to plain text; None where it cannot be read.

    Raises:
        UsageError: pylatexenc is not installed.
    """
    try:
        from pylatexenc.latex2text import LatexNodes2Text
        from pylatexenc.latexwalker import LatexWalkerError
    except ImportError as error:
        raise UsageError("OmniDocBench needs the extra: pip install 'nano-deepseek-ocr[eval]'") from error
    # It warns about every odd formula, and nobody could do anything about that.
    logging.getLogger("pylatexenc").setLevel(logging.ERROR)
    try:
        return str(LatexNodes2Text().latex_to_text(latex))
    except (LatexWalkerError, *LATEX_ERRORS):
        return None


def normalise_formula(latex: str, version: Version = "1.5") -> str:
    """Remove delimiters, tags, environments, fonts, spacing and case from a formula."""
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
    """Levenshtein / longer length of two normalised formulas, in [0, 1]; 0 when both are empty by then.

    This is OmniDocBench's second measure of formulas. The first, CDM, compares them as drawn by TeX.
    """
    found, wanted = normalise_formula(prediction), normalise_formula(truth)
    return Levenshtein.normalized_distance(found, wanted)
