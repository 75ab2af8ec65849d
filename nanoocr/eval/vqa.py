"""TextVQA's accuracy: compares an answer with those of ten people, normalised as in the VQA challenge.

The rules and word lists are those of the VQA challenge's evaluation server (EvalAIAnswerProcessor of
facebookresearch/mmf, which lmms-eval uses too), including its mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from statistics import fmean

# Contractions, for answers that lack one apostrophe ("couldnt've" and "couldn'tve" are couldn't've).
CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've
why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've
"""
NUMBER_WORDS = "none zero one two three four five six seven eight nine ten"
ARTICLES = ("a", "an", "the")
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
PERIOD = re.compile(r"\.(?!\d)")
MOST_PERIODS = 32  # The official code passes re.UNICODE, which is 32, as re.sub's count.
ENOUGH = 3  # this many people must agree for full marks


def textvqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Accuracy of one answer in [0, 1].

    Each person is left out in turn, and three matches among the others give full marks; the mean counts.

    Raises:
        ValueError: fewer than two people have answered.
    """
    if len(answers) < 2:
        raise ValueError(f"{len(answers)} answers: one person is left out, so that there must be two")
    found = normalise_answer(prediction)
    agree = [normalise_answer(answer) == found for answer in answers]
    return fmean(min(1.0, (sum(agree) - own) / ENOUGH) for own in agree)


def normalise_answer(text: str) -> str:
    """Lower the case, drop punctuation and articles, write numbers to ten as digits, restore contractions."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    plain = text
    for mark in PUNCTUATION:
        at_edge = f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if at_edge else " ")
    numbers = {word: str(max(0, i - 1)) for i, word in enumerate(NUMBER_WORDS.split())}
    words = (numbers.get(word, word) for word in PERIOD.sub("", plain, count=MOST_PERIODS).split())
    spelt = contractions()
    return " ".join(spelt.get(word, word) for word in words if word not in ARTICLES)


@cache
def contractions() -> dict[str, str]:
    """Map spellings that lack an apostrophe to their contractions, including the list's one mistake."""
    spelt = {"somebody'd": "somebodyd"}
    for word in CONTRACTIONS.split():
        places = (i for i, letter in enumerate(word) if letter == "'")
        spelt.update({word[:i] + word[i + 1 :]: word for i in places})
    return spelt
