"""The loader: exact continuation, workers and ranks that change nothing, rows that cannot be used."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

import pytest
import torch

from nanoocr.data.batch import Batch
from nanoocr.data.loader import RUN, DataPlan, Delivery, multimodal_data_generator
from nanoocr.data.rows import Row, Turn
from nanoocr.data.source import Mixture, RowsTask, rows_source
from nanoocr.errors import UsageError
from nanoocr.model.vlm import IGNORE

VIEWS = ((64, 128), (128, 128))


@pytest.fixture
def rows(make_row) -> list[Row]:
    return [make_row(i, answer="a" * (1 + 7 * i % 11), size=VIEWS[i % 2], chars="x") for i in range(7)]


@pytest.fixture
def data(byte_tokenizer, rows) -> DataPlan:
    return DataPlan(
        source=rows_source(rows, seed=5),
        tokenizer=byte_tokenizer,
        views=VIEWS,
        batch_size=3,
        steps=10,
        seed=5,
        max_length=100,
    )


def same(a: Batch, b: Batch) -> bool:
    def tensors(batch: Batch) -> list[torch.Tensor]:
        documents = () if batch.documents is None else (batch.documents.positions, batch.documents.inverse)
        views = (t for group in batch.views for t in (group.pixels, group.glyphs))
        return [batch.ids, batch.targets, *documents, *views]

    ours, theirs = tensors(a), tensors(b)
    return len(ours) == len(theirs) and all(torch.equal(x, y) for x, y in zip(ours, theirs))


def steps(data: DataPlan, **options: object) -> list[list[Delivery]]:
    return list(multimodal_data_generator(data, **options))


def batches(data: DataPlan, **options: object) -> list[Batch]:
    return [delivery.batch for deliveries in steps(data, **options) for delivery in deliveries]


def answers(batch: Batch) -> list[str]:
    """The supervised texts of a batch, documents in order."""
    supervised = batch.targets[batch.targets != IGNORE].tolist()
    return bytes(token if token < 256 else ord("\n") for token in supervised).decode().splitlines()


def test_the_same_seed_gives_the_same_batches(data, rows):
    first, second = batches(data), batches(data)
    assert len(first) == 10 and all(same(a, b) for a, b in zip(first, second))
    other = batches(replace(data, source=rows_source(rows, seed=6), seed=6))
    assert not all(same(a, b) for a, b in zip(first, other))


def states_after(deliveries: list[list[Delivery]]) -> dict:
    return {d.stream: d.state for step in deliveries for d in step}


PLANS = [
    {},
    {"packed": True},
    {"packed": True, "batch_size": 4, "micro_batch": 2},
    {"packed": True, "batch_size": 4, "micro_batch": 1, "turns": 2},
    {"turns": 3},
]


@pytest.mark.parametrize("options", PLANS)
@pytest.mark.parametrize("start", [1, 4, 9])
def test_going_on_from_the_states_continues_exactly(data, options, start):
    data = replace(data, **options)
    whole = steps(data)
    rest = steps(data, start=start, states=states_after(whole[:start]))
    assert len(rest) == 10 - start
    for expected, found in zip(whole[start:], rest):
        assert all(same(a.batch, b.batch) and a.state == b.state for a, b in zip(expected, found))


def test_without_the_states_the_comparison_fails(data):
    whole, rest = steps(data), steps(data, start=4)
    assert not all(same(a[0].batch, b[0].batch) for a, b in zip(whole[4:], rest))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than this machine has cores
@pytest.mark.parametrize("options", PLANS)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_worker_processes_change_nothing(data, options, workers):
    data = replace(data, **options)
    assert all(same(a, b) for a, b in zip(batches(data), batches(data, workers=workers), strict=True))


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_share_the_same_micro_batches(data, ranks):
    data = replace(data, packed=True, batch_size=8, micro_batch=2, turns=2)
    whole = steps(data)
    shares = [steps(data, rank=rank, ranks=ranks) for rank in range(ranks)]
    for step, expected in enumerate(whole):
        found = {d.stream: d.batch for share in shares for d in share[step]}
        assert len(found) == 4 and all(same(d.batch, found[d.stream]) for d in expected)


def test_a_run_may_go_on_with_other_ranks(data):
    data = replace(data, packed=True, batch_size=4, micro_batch=1)
    whole = steps(data)
    halves = [steps(replace(data, steps=5), rank=rank, ranks=2) for rank in range(2)]
    states = {**states_after(halves[0]), **states_after(halves[1])}
    for expected, found in zip(whole[5:], steps(data, start=5, states=states)):
        assert all(same(a.batch, b.batch) for a, b in zip(expected, found))


def test_ranks_that_cannot_share_are_told(data):
    with pytest.raises(UsageError, match="2 ranks cannot share 3 micro-batches"):
        steps(replace(data, micro_batch=1), ranks=2)
    with pytest.raises(UsageError, match="--micro_batch=2 does not divide --batch_size=3"):
        replace(data, micro_batch=2)


def numbered(make_row, count: int) -> list[Row]:
    return [make_row(i, answer=f"{i:04d}" + "x" * (i % 13)) for i in range(count)]


@pytest.mark.parametrize("options", [{}, {"packed": True}, {"micro_batch": 1, "turns": 2}])
def test_no_row_is_lost_or_doubled(data, make_row, options):
    """All streams together draw each row once; what was drawn is in a batch or still waits."""
    count = 12 * RUN
    data = replace(data, source=rows_source(numbered(make_row, count), 0), steps=30, **options)
    seen: Counter[str] = Counter()
    deliveries = steps(data)
    for step in deliveries:
        for delivery in step:
            seen.update(text[:4] for text in answers(delivery.batch))
    states = states_after(deliveries)
    waiting = sum(len(state.waiting) for state in states.values())
    assert sum(state.draws for state in states.values()) == waiting + seen.total()
    assert max(seen.values()) == 1


def test_rows_of_similar_length_share_a_batch(data, make_row):
    rows = [make_row(i, answer="x" * (1 + i % 40)) for i in range(400)]
    data = replace(data, source=rows_source(rows, 0), batch_size=8, steps=20)
    spreads = [int((n := (b.targets != IGNORE).sum(1)).max() - n.min()) for b in batches(data)]
    alone = batches(replace(data, window=8))  # no choice: whoever comes
    loose = [int((n := (b.targets != IGNORE).sum(1)).max() - n.min()) for b in alone]
    assert sum(spreads) < 0.6 * sum(loose)


def test_a_window_of_one_batch_takes_rows_as_they_come(data, rows):
    """What a small set needs that is learnt by heart: every batch holds every row."""
    data = replace(data, batch_size=7, window=7)
    everyone = sorted(row.answer for row in rows)
    assert all(sorted(answers(batch)) == everyone for batch in batches(data))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_row_that_does_not_fit_is_one_sentence(data, workers):
    """Also out of a worker process: a user gets no traceback."""
    with pytest.raises(UsageError) as caught:
        batches(replace(data, max_length=5), workers=workers)
    assert "max_length is 5" in str(caught.value) and "\n" not in str(caught.value)


def test_rows_that_may_be_skipped_are_counted(data, make_row):
    rows = [make_row(i, answer="x" * (80 if i % 3 == 0 else 4)) for i in range(9)]
    data = replace(data, source=rows_source(rows, 0), skip_long=True, max_length=60)
    deliveries = [step[0] for step in steps(data)]
    assert {len(d.batch.ids) for d in deliveries} == {3}
    skipped = sum(d.skipped.get("too long", 0) for d in deliveries)
    drawn = deliveries[-1].state.draws
    assert skipped == sum(i % 3 == 0 for i in range(9)) * drawn // 9
    assert all("xxxxx" not in text for d in deliveries for text in answers(d.batch))


def test_rows_that_fit_with_smaller_pictures_are_used_and_counted(data, make_row):
    """Squares (7 tokens of picture) shrink to the wide view (4), the longest row is skipped; also resumed."""
    sizes = {"long": (128, 128), "wide": (64, 128), "far too long": (128, 128)}
    rows = [make_row(i, answer=answer, size=size) for i, (answer, size) in enumerate(sizes.items())]
    data = replace(data, source=rows_source(rows, 0), skip_long=True, shrink_long=True, max_length=18)
    deliveries = [step[0] for step in steps(data)]
    draws = deliveries[-1].state.draws
    assert draws > 30 and sum(d.shrunk for d in deliveries) == pytest.approx(draws / 3, abs=1)
    assert sum(d.skipped["too long"] for d in deliveries if d.skipped) == pytest.approx(draws / 3, abs=1)
    texts = Counter(text for d in deliveries for text in answers(d.batch))
    assert set(texts) == {"long", "wide"} and texts.total() == 30
    assert all(group.pixels.shape[1:3] == (64, 128) for d in deliveries for group in d.batch.views)
    again = [step[0] for step in steps(data, start=4, states=states_after([[d] for d in deliveries[:4]]))]
    assert [d.shrunk for d in again] == [d.shrunk for d in deliveries[4:]]
    assert all(same(a.batch, b.batch) for a, b in zip(deliveries[4:], again))


def test_nothing_but_rows_that_cannot_be_used(data):
    with pytest.raises(UsageError, match=r"none of 1000 rows.*too long.*5 tokens.*--max_length"):
        batches(replace(data, max_length=5, skip_long=True))


def broken(name: str, content: bytes) -> Row:
    return Row(name, (content,), (Turn("Read.", "never"),), "test")


def test_unreadable_rows_are_skipped_by_policy_or_named(data, rows, make_row):
    """One breaks in its header, the other behind it, after it was packed."""
    buffer = io.BytesIO()
    make_row(1).image.save(buffer, format="PNG")
    bad = [broken("bad: row 1", b"not a picture"), broken("bad: row 2", buffer.getvalue()[:300])]
    data = replace(data, source=rows_source([*rows, *bad], 0), packed=True, steps=6)
    skipping = replace(data, skip_bad=True)
    deliveries = [step[0] for step in steps(skipping)]
    assert sum(d.skipped.get("unreadable", 0) for d in deliveries) >= 2
    assert all("never" not in text for d in deliveries for text in answers(d.batch))
    again = steps(skipping, start=3, states=states_after([[d] for d in deliveries[:3]]))
    assert all(same(a.batch, b[0].batch) for a, b in zip(deliveries[3:], again))
    with pytest.raises(UsageError, match=r"bad: row [12]"):
        steps(data)


def test_nothing_but_pictures_that_break_behind_their_header(data, make_row):
    """They plan well and never decode: an end with a sentence, not a search without one."""
    buffer = io.BytesIO()
    make_row(1).image.save(buffer, format="PNG")
    rows = [broken(f"bad: row {i}", buffer.getvalue()[:300]) for i in range(3)]
    with pytest.raises(UsageError, match=r"none of \d+ rows.*unreadable"):
        steps(replace(data, source=rows_source(rows, 0), skip_bad=True))


def test_supervised_tokens_and_samples_are_counted_by_task(data, rows):
    text = [Row(f"t{i}", (), (Turn("q", "yes"),), "test") for i in range(4)]
    mixture = Mixture((("seen", RowsTask(rows)), ("text", RowsTask(text))), (0.5, 0.5), 0)
    data = replace(data, source=mixture, packed=True, steps=40)
    taken, samples = Counter[str](), Counter[str]()
    for step in steps(data):
        taken.update(step[0].taken)
        samples.update(step[0].samples_by_task)
        assert sum(step[0].taken.values()) == step[0].batch.num_supervised
        texts = Counter("text" if text == "yes" else "seen" for text in answers(step[0].batch))
        assert texts == step[0].samples_by_task
    assert 0.2 < taken["text"] / taken.total() < 0.6
    assert samples["text"] / samples.total() == pytest.approx(0.5, abs=0.05)
    assert taken["text"] == 4 * samples["text"]  # "yes" and its end: shares in tokens are another matter
