"""Poisoned data are refused in every one of ten seeds, and good data never, however badly they are read."""

import numpy as np
import pytest

from nanoocr.errors import DoubtfulDataError
from nanoocr.finetune.agreement import agreement, refuse_doubtful
from nanoocr.finetune.types import CutDocument, LineStrip, TrueDocument

LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789")
HEADING = "delivery note of the house of lindner and sons"  # which all documents of a style share


def texts(rng, count):
    return [
        "\n".join([HEADING, *(" ".join("".join(rng.choice(LETTERS, 6)) for _ in range(4)) for _ in range(8))])
        for _ in range(count)
    ]


def misread(rng, text, share):
    return "".join(rng.choice(LETTERS) if c.isalnum() and rng.random() < share else c for c in text)


def cut(name, said, read):
    document = TrueDocument(name, b"", "text", said, name)
    strip = LineStrip(name, name, np.zeros((64, 64, 3), np.uint8), (10, 50), said, read, 0.9)
    return CutDocument(document, (strip,), read, len("".join(said.split())))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("share", [0.02, 0.4])
def test_shuffled_and_half_wrong_texts_are_refused_and_true_ones_are_not(seed, share):
    rng = np.random.default_rng(seed)
    true = texts(rng, 20)
    read = [misread(rng, text, share) for text in true]
    good = agreement([cut(str(i), t, r) for i, (t, r) in enumerate(zip(true, read))])
    refuse_doubtful(good)
    assert good.doubtful == ()
    shuffled = [true[(i + 1 + seed) % 20] for i in range(20)]
    half = [text if i % 2 else other for i, (text, other) in enumerate(zip(true, texts(rng, 20)))]
    for poisoned in (shuffled, half):
        found = agreement([cut(str(i), t, r) for i, (t, r) in enumerate(zip(poisoned, read))])
        with pytest.raises(DoubtfulDataError, match="do not belong to their pictures"):
            refuse_doubtful(found)
    assert len(found.doubtful) == 10  # and of the half those that are wrong


def test_a_few_wrong_texts_are_left_out_and_named():
    rng = np.random.default_rng(1)
    true = texts(rng, 20)
    wrong = [texts(rng, 1)[0], *true[1:]]
    found = agreement([cut(str(i), t, r) for i, (t, r) in enumerate(zip(wrong, true))])
    refuse_doubtful(found)
    assert found.doubtful == ("0",) and "0" in found.warnings()[0]


def test_texts_that_were_not_found_on_the_pictures_are_a_warning():
    one = cut("a", HEADING, HEADING)
    half = CutDocument(one.document, one.strips, one.read, 3 * one.characters)
    assert any("33%" in sentence for sentence in agreement([half]).warnings())
