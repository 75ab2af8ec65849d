"""Where rows come from: drawn live, or out of data sets by weight, each row once per epoch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from nanoocr.data.source import (
    BLOCK,
    EpochOrder,
    Mixture,
    RowsTask,
    SynthMix,
    apportion,
    parse_curriculum,
    parse_mix,
    rows_source,
)
from nanoocr.data.synth import KINDS, find_fonts
from nanoocr.errors import UsageError


def test_every_row_comes_once_per_epoch_in_another_order(numbered_task):
    order = EpochOrder(numbered_task([3, 1, 4, 2]), (7,))
    epochs = [[order[i] for i in range(10 * e, 10 * e + 10)] for e in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert [order[i] for i in range(40)] == [i for epoch in epochs for i in epoch]  # asked again, the same


def test_a_large_set_without_row_groups_has_few_units():
    """A million rows are a few ranges, not a million of them; every row still comes once."""
    rows = RowsTask(range(1_000_000))
    assert len(rows.units()) == 16
    order = EpochOrder(RowsTask(range(150_000)), (1,))
    first = [order[i] for i in range(0, 150_000, 97)]
    assert len(set(first)) == len(first) and first != sorted(first)
    assert RowsTask([]).units() == []


def test_rows_of_a_unit_come_together(numbered_task):
    order = EpochOrder(numbered_task([50, 50, 50]), (1,))
    for epoch in range(3):
        groups = [order[i] // 50 for i in range(150 * epoch, 150 * epoch + 150)]
        assert sum(a != b for a, b in pairwise(groups)) == 2
        inside = [order[i] for i in range(150 * epoch, 150 * epoch + 50)]
        assert inside != sorted(inside)


def test_files_at_hand_are_permuted_as_one(numbered_task):
    """The order that a seed has always given: a resumed run depends on it."""
    order = EpochOrder(numbered_task([1] * 9), (1,))
    for epoch in range(2):
        expected = np.random.default_rng([1, epoch]).permutation(9).tolist()
        assert [order[i] for i in range(9 * epoch, 9 * epoch + 9)] == expected


def test_shares_of_a_mixture_are_exact_in_every_block(numbered_task):
    mixture = Mixture(
        (("a", numbered_task([7])), ("b", numbered_task([100])), ("c", numbered_task([3, 3]))),
        (0.7, 0.2, 0.1),
        seed=3,
    )
    for block in range(3):
        names = [mixture.name_of(draw) for draw in range(block * BLOCK, (block + 1) * BLOCK)]
        assert Counter(names) == {"a": 700, "b": 200, "c": 100}
        assert Counter(names[:100])["a"] > 50  # mixed within the block as well
    seen = Counter(mixture(draw, 0.0).answer for draw in range(BLOCK) if mixture.name_of(draw) == "b")
    assert seen == dict.fromkeys(map(str, range(100)), 2)  # 200 draws of 100 rows


def test_a_draw_depends_on_its_number_alone(numbered_task):
    tasks = (("a", numbered_task([5, 5])), ("b", numbered_task([4])))
    one, other = (Mixture(tasks, (1.0, 2.0), seed=5) for _ in range(2))
    forward = [one(draw, 0.0).answer for draw in range(300)]
    assert [other(draw, 0.0).answer for draw in reversed(range(300))] == forward[::-1]
    assert [Mixture(tasks, (1.0, 2.0), seed=6)(draw, 0.0).answer for draw in range(300)] != forward


def test_a_source_tells_by_name_which_of_its_data_have_changed(numbered_task, make_row):
    def marks(*counts):
        names = ("a", "b")
        return Mixture(tuple(zip(names, map(numbered_task, counts))), (1.0, 2.0), seed=5).fingerprint()

    before, after = marks([5, 5], [4]), marks([5, 5], [5])
    assert before == marks([5, 5], [4]) and before["a"] == after["a"] and before["b"] != after["b"]
    rows = [make_row(i) for i in range(5)]
    assert rows_source(rows, 1).fingerprint() != rows_source(rows[::-1], 1).fingerprint()
    drawn, other = synth(), replace(synth(), fonts=find_fonts()[:2])
    assert drawn.fingerprint() == synth().fingerprint() != other.fingerprint()


def test_apportion():
    assert apportion([1, 1, 1], 100) in {(34, 33, 33), (33, 34, 33), (33, 33, 34)}
    assert apportion([1e-9, 1.0], 10) == (1, 9)  # never nothing
    assert apportion([0.999, 0.0005, 0.0005], 1000) == (998, 1, 1)
    assert sum(apportion([0.123, 0.456, 7.0, 1e-3], 1000)) == 1000


def test_a_task_without_rows_is_named(numbered_task):
    with pytest.raises(UsageError, match=r"empty.*no rows"):
        Mixture((("empty", numbered_task([])),), (1.0,), 0)


def test_a_small_set_in_memory(make_row):
    rows = [make_row(i) for i in range(5)]
    source = rows_source(rows, seed=1)
    for epoch in range(3):
        drawn = [source(index, 0.0).id for index in range(epoch * 5, epoch * 5 + 5)]
        assert sorted(drawn) == sorted(row.id for row in rows)
    assert RowsTask(rows)[3] is rows[3]


# ---------------------------------------------------------------------------------------------------------
# synthetic rows


def synth(**options: object) -> SynthMix:
    return SynthMix(kinds={"card": 1.0}, fonts=find_fonts()[:3], seed=3, **options)


def test_synthetic_rows_depend_on_seed_and_index_alone():
    a, b, other = synth()(17, 0.0), synth()(17, 0.0), synth()(18, 0.0)
    assert np.array_equal(np.asarray(a.image), np.asarray(b.image)) and a.answer == b.answer
    assert a.answer != other.answer
    assert replace(synth(), seed=4)(17, 0.0).answer != a.answer


def lines(source: SynthMix, progress: float) -> set[int]:
    return {source(index, progress).answer.count("\n") + 1 for index in range(12)}


def test_curriculum_bounds_the_lines_of_a_card():
    source = synth(curriculum=((0.0, 1, 1), (0.5, 1, 2), (0.75, 1, 4), (0.9, 3, 4)))
    assert lines(source, 0.0) == lines(source, 0.49) == {1}
    assert lines(source, 0.5) == {1, 2}
    assert lines(source, 0.75) == {1, 2, 3, 4}
    assert lines(source, 1.0) == {3, 4}


def test_a_curriculum_may_become_easier_again():
    source = synth(curriculum=((0.0, 1, 3), (0.5, 1, 1)))
    assert lines(source, 0.0) == {1, 2, 3}
    assert lines(source, 0.5) == {1}


def test_mix_and_text_ratio():
    source = replace(synth(text_ratio=0.5), kinds={"card": 1.0, "receipt": 3.0})
    rows = [source(index, 0.0) for index in range(80)]
    assert 45 <= sum(row.id.startswith("receipt") for row in rows) <= 75
    text = [row for row in rows if not row.pictures]
    assert 25 <= len(text) <= 55
    assert all(row.answer in row.prompt and row.chars == "" for row in text)


def test_parse_mix():
    known = tuple(KINDS)
    assert parse_mix("card", known) == {"card": 1.0}
    assert parse_mix("card:0.8,scene:0.2", known) == {"card": 0.8, "scene": 0.2}


@pytest.mark.parametrize(
    "text", ["", "poem", "card:x", "card:0", "card:-1", "card:nan", "card:inf", "card,,", ":1", "card,card:2"]
)
def test_parse_mix_refuses(text):
    with pytest.raises(UsageError, match="--mix"):
        parse_mix(text, tuple(KINDS))


def test_parse_curriculum():
    assert parse_curriculum("0:3") == ((0.0, 1, 3),)
    assert parse_curriculum("0:1,0.1:2,0.3:2-3") == ((0.0, 1, 1), (0.1, 1, 2), (0.3, 2, 3))


@pytest.mark.parametrize(
    "text",
    ["", "3", "0:0", "0:5", "0.5:2", "0:1.5", "0:x", "0:1:2", "0:1,", "0:1,0:2", "0:1,0.5:2,0.4:3"],
)
def test_parse_curriculum_refuses(text):
    with pytest.raises(UsageError, match="--curriculum"):
        parse_curriculum(text)


@pytest.mark.parametrize("lines", ["3-2", "0-2", "2-5", "-2", "2-", "1-2-3"])
def test_parse_curriculum_refuses_lines(lines):
    with pytest.raises(UsageError, match=f"--curriculum=0:{lines}"):
        parse_curriculum(f"0:{lines}")
