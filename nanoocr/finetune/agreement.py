"""Do the texts belong to the pictures? Asked before training, of what the base model has read.

A model that reads a style badly still reads a document's own text out of it rather than another one's. So
every text is compared with its own picture and with others': where its own is no better, the pair is
doubtful, however bad the reading is. Many such pairs would teach the model to read what is not there.

Within a document the same is asked of its lines, where the truth comes with places: a line that the model is
sure of and that its box says something quite different about is contradicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from nanoocr.alphabet import CHARACTERS
from nanoocr.errors import DoubtfulDataError
from nanoocr.finetune.types import CutDocument

OTHERS = 24  # texts of other documents that a picture is compared with
FEWEST = 4  # A text of fewer letters says too little to be told from others.
MARGIN = 0.04  # what a picture's own text must be nearer than the nearest of the others
# Forms of one print differ in a few words, so that no text can be much nearer than another: there the margin
# is this share of what both texts differ by.
MARGIN_OF_FORMS = 0.25
MOST_DOUBTFUL = 0.2  # share of the pairs, or of the lines, from which the data are refused
LEAST_ALIGNED = 0.7  # The user is warned if strips are found for a smaller share of the texts' characters.
# A reading contradicts a line if its confidence is at least SURE, and its edits per character exceed ANOTHER.
SURE, ANOTHER = 0.5, 0.5
PART = 70  # From this likeness, in per cent, a truth counts as a part of what was read.
FEWEST_LINES = 10  # A share of fewer lines says nothing.
LONGEST = 3000  # characters of a text that are compared
MOSTLY = 0.5  # A reading says nothing if a larger share of the characters was never seen in training.
SEEN = frozenset(CHARACTERS)


@dataclass(frozen=True)
class Agreement:
    """What the base model says about the pairs."""

    compared: int
    doubtful: tuple[str, ...]  # names of documents
    aligned: float  # share of all characters of the truths that strips were found for
    own: tuple[float, ...]  # distance of each picture's reading to its own text, 0 to 1
    others: tuple[float, ...]  # to the nearest text of another document
    lines: int = 0  # lines whose truth came with a place or a crop
    contradicted: tuple[str, ...] = ()  # those that the model surely reads otherwise, in words
    unseen: tuple[str, ...] = ()  # names of documents that are written in characters of no training picture

    @property
    def wrong_lines(self) -> float:
        """Share of contradicted lines."""
        return len(self.contradicted) / self.lines if self.lines >= FEWEST_LINES else 0.0

    @property
    def share(self) -> float:
        """Of doubtful pairs."""
        return len(self.doubtful) / self.compared if self.compared else 0.0

    def warnings(self) -> list[str]:
        """Sentences for what does not stop the run and should be looked at."""
        said = []
        if self.doubtful:
            names = ", ".join(self.doubtful[:5])
            said.append(
                f"{len(self.doubtful)} of {self.compared} documents are left out, since their texts do not "
                f"belong to their pictures: {names}"
            )
        if self.unseen:
            said.append(
                f"documents mostly in characters that no training picture had: {len(self.unseen)}, as "
                f"{self.unseen[0]}; what is read there says nothing, so that only texts with boxes or of "
                "single lines can be used, and whether they are true is not checked"
            )
        if self.contradicted:
            said.append(
                f"{len(self.contradicted)} of {self.lines} lines say something else than the picture shows "
                f"and are left out, as {self.contradicted[0]}"
            )
        if self.aligned < LEAST_ALIGNED:
            said.append(
                f"only {self.aligned:.0%} of the texts' characters were found on the pictures: many texts "
                "are wrong, or this model cannot read the style; look at the lines in the report"
            )
        return said


def agreement(cuts: Sequence[CutDocument], seed: int = 0) -> Agreement:
    """Compare every reading with its own text and with others'."""
    known = [cut for cut in cuts if not mostly_unseen(cut.document.text)]
    told = [cut for cut in known if len(_flat(cut.document.text)) >= FEWEST]
    rng = np.random.default_rng(seed)
    texts = [_flat(cut.document.text) for cut in told]
    doubtful, own, others = [], [], []
    for number, cut in enumerate(told):
        read = _flat(cut.read)
        rest = [i for i in range(len(told)) if texts[i] != texts[number]]
        picked = [texts[int(i)] for i in rng.permutation(rest)[:OTHERS]]
        nearest = min(picked, key=lambda text: _distance(read, text), default="")
        own.append(_distance(read, texts[number]))
        others.append(_distance(read, nearest) if nearest else 1.0)
        apart = _distance(texts[number], nearest) if nearest else 1.0
        if own[-1] > others[-1] - min(MARGIN, MARGIN_OF_FORMS * apart):
            doubtful.append(cut.document.name)
    characters = sum(cut.characters for cut in known)
    aligned = sum(cut.aligned * cut.characters for cut in known) / characters if characters else 1.0
    wrong = [line for cut in cuts for line in cut.contradicted]
    lines = sum(len(cut.strips) for cut in cuts if cut.document.lines) + len(wrong)
    both = (tuple(own), tuple(others))
    unseen = tuple(cut.document.name for cut in cuts if mostly_unseen(cut.document.text))
    return Agreement(len(told), tuple(doubtful), aligned, *both, lines, tuple(wrong), unseen)


def mostly_unseen(text: str) -> bool:
    """Is a text written in characters that no picture of the base model's training had, for the most part?"""
    letters = "".join(text.split())
    return sum(char not in SEEN for char in letters) > MOSTLY * len(letters)


def contradicts(read: str, confidence: float, truth: str) -> bool:
    """Whether the model surely reads something else than a line's truth says.

    A truth that is part of what is read does not contradict it: many files have boxes for some of the ink.
    Nor does one in characters that the model does not know.
    """
    if mostly_unseen(truth):
        return False
    read, truth = _flat(read), _flat(truth)
    if min(len(read), len(truth)) < FEWEST or confidence < SURE:
        return False
    return _distance(read, truth) > ANOTHER and fuzz.partial_ratio(read, truth) < PART


def refuse_doubtful(found: Agreement) -> None:
    """Stop before training where the texts do not belong to the pictures.

    Raises:
        DoubtfulDataError: too many pairs are doubtful, or too many lines are contradicted.
    """
    if found.share > MOST_DOUBTFUL:
        own, other = (float(np.mean(values)) for values in (found.own, found.others))
        raise DoubtfulDataError(
            f"{len(found.doubtful)} of {found.compared} texts do not belong to their pictures, as "
            f"{found.doubtful[0]} (what is read differs from its own text by {own:.0%} and from another one "
            f"by {other:.0%}, on average): mend the texts, or give --accept_doubtful to leave these out"
        )
    if found.wrong_lines > MOST_DOUBTFUL:
        raise DoubtfulDataError(
            f"{len(found.contradicted)} of {found.lines} lines say something else than their pictures show, "
            f"as {found.contradicted[0]}: mend the texts, or give --accept_doubtful to leave these out"
        )


def _flat(text: str) -> str:
    """Without case and blanks, which truths and readings handle in ways of their own."""
    return "".join(text.casefold().split())[:LONGEST]


def _distance(one: str, other: str) -> float:
    return float(Levenshtein.normalized_distance(one, other))
