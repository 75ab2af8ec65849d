"""Texts that are all in capitals, or all in small letters, where the print is neither.

Many transcripts are written so, as those of the receipts of ICDAR 2019 (SROIE). Whoever trains on them as
they are asks for two things at once: to read better, and to write other letters than are printed. The second
one fights all that the model knows, and costs more elsewhere than the first one gains (docs/log.md). So it is
not learned but told: training sees the case of the print, as far as it is read, and the model folder says
what letters its texts are written in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rapidfuzz.distance import Levenshtein

from nanoocr.alphabet import CAPITALS, SMALL, written_in
from nanoocr.finetune.types import CutDocument

ALL = 0.995  # share of a kind of letters from which texts consist of it
PRINTED_OTHERWISE = 0.1  # share of the letters that are surely read as the other kind
FEWEST = 100  # With fewer letters in a text and its reading, nothing is said.


def letters_of(cuts: Sequence[CutDocument]) -> str:
    """What all texts are written in where the print is read as something else; "" where they follow it."""
    kinds = Counter[str]()  # of the truths' letters
    changed = same = 0  # of those that are read as the same letter
    for strip in (strip for cut in cuts for strip in cut.strips):
        kinds.update("small" if char.islower() else "capitals" for char in strip.truth if _has_case(char))
        for char, other in _pairs(strip.truth, strip.read):
            if other is not None and _has_case(char):
                changed, same = changed + (char != other), same + (char == other)
    if changed + same < FEWEST or changed < PRINTED_OTHERWISE * (changed + same):
        return ""
    kind, count = kinds.most_common(1)[0]
    return {"capitals": CAPITALS, "small": SMALL}[kind] if count >= ALL * kinds.total() else ""


def as_printed(cut: CutDocument) -> CutDocument:
    """The document's strips with truths in the case of the print."""
    strips = tuple(replace(strip, truth=in_case_of(strip.truth, strip.read)) for strip in cut.strips)
    # The letters with places are those of the truth, one by one.
    placed = tuple(
        replace(strip, chars="".join(strip.truth.split())) if strip.chars else strip for strip in strips
    )
    return replace(cut, strips=placed)


def in_case_of(truth: str, read: str) -> str:
    """`truth` with the case that was read, and where a letter was misread, that of the letters around it."""
    made: list[str] = []
    for char, other in _pairs(truth, read):
        if other is not None:
            made.append(other)
        elif not _has_case(char):
            made.append(char)
        else:
            made.append("")  # Its neighbours decide below.
    return "".join(new or _as_neighbours(truth, made, place) for place, new in enumerate(made))


def _as_neighbours(truth: str, made: Sequence[str], place: int) -> str:
    """A misread letter in the case of the nearest letter of its word that was read, if possible behind it."""
    near = _first_case(made, range(place + 1, len(made))) or _first_case(made, range(place - 1, -1, -1))
    first = place == 0 or not truth[place - 1].isalpha()
    # A word may begin with a capital before small letters, so that these say nothing about its first one.
    if near is None or (first and near == SMALL):
        return truth[place]
    return written_in(truth[place], near)


def _first_case(made: Sequence[str], places: range) -> str | None:
    """The case of the nearest letter in this direction within the word."""
    for place in places:
        if made[place].isspace():
            return None
        if _has_case(made[place]):
            return SMALL if made[place].islower() else CAPITALS
    return None


def _has_case(char: str) -> bool:
    return char.islower() != char.isupper()


def _pairs(truth: str, read: str) -> list[tuple[str, str | None]]:
    """Each character of the truth with the same one as it was read, or None."""
    # A folded text as long as the text itself: ß and the like stay what they are.
    one, other = ("".join(c.lower() if len(c.lower()) == 1 else c for c in text) for text in (truth, read))
    found: list[str | None] = [None] * len(truth)
    for code in Levenshtein.opcodes(one, other):
        if code.tag == "equal":
            found[code.src_start : code.src_end] = read[code.dest_start : code.dest_end]
    return list(zip(truth, found, strict=True))
