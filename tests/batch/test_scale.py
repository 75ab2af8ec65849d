"""The simulation agrees with what can be worked out by hand, and reads every page exactly once."""

from dataclasses import replace

import numpy as np
import pytest

from scripts.scale import Cluster, Measured, draw_lengths, draw_work, simulate

ONE_SECOND = Measured((1.0,), page_bytes=0.0, start_seconds=10.0, note_seconds=0.0)
CALM = Cluster(
    workers=10,
    pages=16_000,
    deaths_per_day=0.0,
    driver_deaths_per_day=0.0,
    slow_share=0.0,
    single_pages=True,
    fetch_ranges=False,
    round_per_worker=10**6,
)


def test_a_cluster_where_nothing_goes_wrong():
    out = simulate(CALM, ONE_SECOND)
    assert out.hours * 3600 == pytest.approx(10 + 16_000 / 10)
    assert (out.pages, out.lost, out.fetching) == (16_000, 0.0, 0.0)
    assert out.reading == pytest.approx(1600 / 1610)
    assert out.dollars_per_million == pytest.approx(1610 * 10 / 3600 * 0.04 / 16_000 * 1e6)


def test_each_round_costs_a_start():
    out = simulate(replace(CALM, round_per_worker=400), replace(ONE_SECOND, note_seconds=0.0))
    rounds = 1  # 20,000 is the least, and there are 16,000 pages
    assert out.hours * 3600 == pytest.approx(1600 + 10 * rounds)
    out = simulate(replace(CALM, pages_per_round=1600, round_per_worker=0), ONE_SECOND)
    assert out.hours * 3600 == pytest.approx(1600 + 10 * 10)


def test_a_slow_driver_is_what_everything_waits_for():
    out = simulate(replace(CALM, backlog_seconds=1.0), replace(ONE_SECOND, note_seconds=0.5))
    assert out.hours * 3600 == pytest.approx(8000, rel=0.01) and out.driver_busy > 0.99
    light = replace(CALM, backlog_seconds=1.0, note_share=0.1)
    out = simulate(light, replace(ONE_SECOND, note_seconds=0.5))
    assert out.hours * 3600 == pytest.approx(1610, rel=0.01) and out.driver_busy == pytest.approx(
        0.5, rel=0.02
    )


def test_the_store_shares_its_bandwidth():
    measured = replace(ONE_SECOND, page_bytes=1e6)
    out = simulate(replace(CALM, storage_bandwidth=4e6), measured)
    assert out.hours * 3600 == pytest.approx(16_000 / 4, rel=0.02) and out.terabytes == pytest.approx(0.016)


def test_deaths_lose_half_a_task_and_no_page():
    # 16 s a task, and a death in each 5,400 s of reading: half a task for each is 0.15 % of what is read.
    out = simulate(
        replace(CALM, deaths_per_day=16.0, replace_seconds=0.0), replace(ONE_SECOND, start_seconds=0.0)
    )
    assert out.pages == 16_000 and 0 < out.lost < 0.006
    seeds = [simulate(replace(CALM, deaths_per_day=400.0), ONE_SECOND, seed) for seed in range(3)]
    assert all(one.pages == 16_000 for one in seeds)
    ratio = np.mean([one.lost / one.reading for one in seeds])
    assert ratio == pytest.approx(400 / 86400 * 8, rel=0.25)


def test_a_drivers_death_loses_what_is_in_all_hands():
    out = simulate(replace(CALM, driver_deaths_per_day=500.0), ONE_SECOND)
    assert out.pages == 16_000 and out.lost > 0.01


def test_lengths_are_as_they_were_counted():
    lengths = draw_lengths(1_000_000, np.random.default_rng(0))
    assert lengths.sum() == 1_000_000 and lengths.min() >= 1
    assert 45 < lengths.mean() < 65 and np.mean(lengths == 1) == pytest.approx(893 / 4949, abs=0.01)


def test_long_documents_are_fetched_again_and_again():
    measured = replace(ONE_SECOND, page_bytes=1.0)
    skewed = replace(CALM, single_pages=False, pages=50_000)
    whole = draw_work(skewed, measured, np.random.default_rng(0))
    cut = draw_work(replace(skewed, tasks_per_document=4), measured, np.random.default_rng(0))
    assert sum(task.pages for task in whole) == sum(task.pages for task in cut) == 50_000
    assert sum(t.bytes for t in whole) > 2 * sum(t.bytes for t in cut) > 100_000
    ranges = draw_work(replace(skewed, fetch_ranges=True), measured, np.random.default_rng(0))
    assert sum(task.bytes for task in ranges) == 50_000
    singles = draw_work(CALM, measured, np.random.default_rng(0))
    assert sum(task.bytes for task in singles) == 16_000
