"""Poisoned data are refused in every one of ten seeds, and good data never, however badly they are read."""

from dataclasses import replace

import numpy as np
import pytest

from nanoocr.errors import DoubtfulDataError
from nanoocr.finetune.agreement import agreement, contradicts, refuse_doubtful
from nanoocr.finetune.types import CutDocument, LineStrip, TrueDocument, TrueLine

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


def test_many_contradicted_lines_are_refused_and_a_few_are_a_warning():
    rng = np.random.default_rng(2)
    cuts = [cut(str(i), text, text) for i, text in enumerate(texts(rng, 12))]
    placed = [with_lines(one, ()) for one in cuts]
    few = agreement([with_lines(cuts[0], ("0: x",)), *placed[1:]])
    refuse_doubtful(few)
    assert "1 of 13 lines say something else" in few.warnings()[0]
    with pytest.raises(DoubtfulDataError, match="12 of 24 lines say something else"):
        refuse_doubtful(agreement([with_lines(one, ("0: x",)) for one in cuts]))


def with_lines(one, contradicted):
    """The cut document as one whose truth came with places."""
    line = TrueLine(one.document.text, ((0, 0), (9, 0), (9, 9), (0, 9)))
    return replace(one, document=replace(one.document, lines=(line,)), contradicted=contradicted)


@pytest.mark.parametrize("seed", range(5))
def test_forms_of_one_print_that_differ_in_a_line_are_told_apart(seed):
    rng = np.random.default_rng(seed)
    form = texts(rng, 1)[0]
    true = [f"{form}\n{''.join(rng.choice(LETTERS, 12))}" for _ in range(12)]
    read = [misread(rng, text, 0.1) for text in true]
    refuse_doubtful(agreement([cut(str(i), t, r) for i, (t, r) in enumerate(zip(true, read))]))
    shuffled = [*true[1:], true[0]]
    with pytest.raises(DoubtfulDataError):
        refuse_doubtful(agreement([cut(str(i), t, r) for i, (t, r) in enumerate(zip(shuffled, read))]))


def test_a_script_that_the_model_never_saw_is_neither_doubtful_nor_believed_to_be_read():
    rng = np.random.default_rng(3)
    greek = "ταχίστη αλώπηξ βαφής ψημένη γη"
    cuts = [cut(str(i), text, text) for i, text in enumerate(texts(rng, 3))] + [cut("g", greek, "raxlotn")]
    found = agreement(cuts)
    refuse_doubtful(found)
    assert found.doubtful == () and found.unseen == ("g",) and found.aligned == 1
    assert "characters that no training picture had: 1, as g" in found.warnings()[0]
    assert not contradicts("raxlotn alwung", 0.9, greek) and contradicts("raxlotn alwung", 0.9, "summer 12")
