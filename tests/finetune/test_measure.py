"""Who is better is said with intervals, and documents never stand on both sides."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nanoocr.errors import UsageError
from nanoocr.finetune.measure import (
    Measured,
    Reading,
    cer,
    difference,
    flat,
    grounding,
    interval,
    judge,
    mean_interval,
    word_f1,
)
from nanoocr.finetune.plan import FinetuneConfig, split, steps_for, unseen_characters
from nanoocr.finetune.types import CutDocument, LineStrip, TrueDocument


def readings(count, wrong, of=100):
    """`count` documents of `of` characters, of which each has `wrong` misread ones."""
    return tuple(Reading(str(i), str(i), "a" * of, "b" * wrong + "a" * (of - wrong)) for i in range(count))


def measured(pages, drawn):
    return Measured(pages, pages, drawn)


def test_half_the_errors_is_better_and_none_the_less_is_not():
    before = measured(readings(10, 10), readings(50, 3))
    assert judge(before, measured(readings(10, 5), readings(50, 3))).better
    same = judge(before, before)
    assert not same.better and "chance" in same.reasons[0]
    clean = measured(readings(10, 0), readings(50, 3))
    assert "nothing to gain" in judge(clean, clean).reasons[0]


def test_what_forgets_is_not_handed_over():
    before = measured(readings(10, 10), readings(50, 3))
    verdict = judge(before, measured(readings(10, 2), readings(50, 4)))
    assert verdict.reasons == ("the CER of drawn lines rose by 1.00%, more than 0.5%: it forgets",)
    assert judge(before, measured(readings(10, 2), (*readings(40, 3), *readings(10, 4)))).better


def test_one_document_that_gains_does_not_make_a_model_better():
    mixed = (*readings(9, 10), Reading("9", "9", "a" * 100, "a" * 95 + "b" * 5))
    verdict = judge(measured(readings(10, 10), readings(9, 3)), measured(mixed, readings(9, 3)))
    assert verdict.own.value == pytest.approx(-0.005) and not verdict.better


def test_intervals_hold_the_value_and_both_sides_are_drawn_together():
    one = readings(20, 10)
    uneven = tuple(Reading(r.name, r.group, r.truth, r.read[:50]) if i % 2 else r for i, r in enumerate(one))
    found = interval(uneven)
    assert found.low < cer(uneven) < found.high
    assert difference(uneven, uneven).low == difference(uneven, uneven).high == 0
    assert flat(" a\n b\u00a0c ") == "a b c"


def test_a_measure_comes_back_from_json():
    one = measured(readings(2, 1), readings(2, 0))
    assert Measured.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def cut(name, group, count=12, text="abc"):
    strip = LineStrip(name, group, np.zeros((64, 64, 3), np.uint8), (0, 9), "abc", "abc", 1.0)
    return CutDocument(TrueDocument(name, b"", "text", text, group), (strip,) * count, "abc", 3)


@pytest.mark.parametrize("seed", range(5))
def test_documents_of_a_group_are_never_parted(seed):
    parts = split([cut(f"{g}{i}", g) for g in "abcdefghij" for i in range(3)], 0.2, seed)
    groups = [{c.document.group for c in part} for part in (parts.train, parts.watch, parts.measure)]
    assert [len(one) for one in groups] == [7, 1, 2]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


def test_too_little_ends_in_one_sentence():
    with pytest.raises(UsageError, match="at least 3 are needed"):
        split([cut("a", "a"), cut("b", "b")], 0.2, 0)
    with pytest.raises(UsageError, match="2 lines are left to train on"):
        split([cut(name, name, 2) for name in "abc"], 0.2, 0)


def test_steps_follow_the_amount_of_data_and_wrong_flags_are_refused(tmp_path):
    config = FinetuneConfig(data=str(tmp_path / "in"), out=str(tmp_path / "out"))
    assert steps_for(20, config) < steps_for(600, config) < steps_for(10**6, config) == 1500
    for wrong in ({"drawn": 1.0}, {"hold_out": 0.0}, {"patience": -1}, {"out": str(tmp_path / "in" / "m")}):
        with pytest.raises(UsageError):
            FinetuneConfig(**{"data": str(tmp_path / "in"), "out": "x", **wrong})


def test_characters_that_no_training_picture_had_are_counted():
    assert unseen_characters([cut("a", "a", text="Ωmega Ω ä")]) == {"Ω": 2}


def test_a_hold_out_of_one_document_is_judged_by_its_lines():
    page = (Reading("0", "0", "a" * 300, "a" * 300),)
    worse = tuple(Reading(str(i), "0", "a" * 10, "a" * 9 + "b" * (i != 3)) for i in range(30))
    better = tuple(replace(line, read="a" * 10) if i < 1 else line for i, line in enumerate(worse))
    drawn = readings(20, 3)
    # The document's own CER fell, and resampling it alone would call that certain.
    before, after = Measured((replace(page[0], read="a" * 299),), worse, drawn), Measured(page, better, drawn)
    assert not judge(before, after).better


def test_means_have_intervals_by_document():
    lines = tuple(Reading(str(i), str(i // 2), "a b", "a b" if i % 4 else "c", gap=i % 2) for i in range(20))
    found = mean_interval(lines, word_f1)
    assert found.low < found.value < found.high and found.value == pytest.approx(0.75)
    assert mean_interval(lines, grounding).value == 0.5 and mean_interval((), word_f1).value == 0.0
