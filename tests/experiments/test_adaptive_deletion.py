"""The attacks on small data: what breaks, what does not, and nothing beyond what theory allows."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.adaptive_deletion.accuracy import measure_accuracy
from experiments.adaptive_deletion.answers import measure_answers
from experiments.adaptive_deletion.answers import right as seen
from experiments.adaptive_deletion.copycat import measure_copycat
from experiments.adaptive_deletion.digits import Digits, fit, outputs, read_digits
from experiments.adaptive_deletion.figures import Figure, below, figure, guess_bound, normal_cdf, pair_bound
from experiments.adaptive_deletion.run import run
from experiments.adaptive_deletion.setting import AccuracySetting, Copycat, Setting, States, Twins, Votes, read_setting
from experiments.adaptive_deletion.states import choose, measure_states
from experiments.adaptive_deletion.twins import counts, measure_twins

N_SHARDS = 4


@pytest.fixture(scope="module")
def digits() -> Digits:
    setting = replace(read_setting().digits, records=400, test_records=300, n_shards=N_SHARDS)
    return read_digits(setting, np.random.default_rng(0))


def by(figures: list[Figure], name: str, **given: float | str) -> Figure:
    found = [f for f in figures if f.name == name and given.items() <= f.setting.items()]
    assert len(found) == 1, (name, given, [(f.name, f.setting) for f in figures])
    return found[0]


def test_labels_alone_break_lookup_tables_and_random_requests_do_not() -> None:
    setting = Twins(pairs=20, repetitions=150, sigmas=(0.0, 2.0, 32.0), asked=(1, 64))
    figures = measure_twins(setting, np.random.default_rng(0))
    assert by(figures, "twins.labels", sigma=0.0).indicator > 0.95
    assert 0.3 < by(figures, "twins.random").indicator < 0.7
    # Noise helps against one label per row, and nothing against many.
    assert by(figures, "twins.labels", sigma=32.0, labels_per_row=1).indicator < 0.7
    assert by(figures, "twins.labels", sigma=2.0, labels_per_row=64).indicator > 0.95
    for each in figures:
        assert each.bound is None or each.low <= each.bound


def test_of_three_shards_two_know_twins_that_are_apart() -> None:
    assert counts(np.array([[0, 0], [0, 2]])).tolist() == [[2, 1], [1, 2]]


def test_published_states_break_exactness_and_placing_anew_restores_it(digits: Digits) -> None:
    setting = States(repetitions=60, requests=(80,), code_repetitions=40)
    figures = measure_states(setting, digits, N_SHARDS, np.random.default_rng(1))
    for name, least in (("states.size", 0.9), ("states.accuracy", 0.75)):
        assert by(figures, name, requester="adaptive").indicator > least
        for requester in ("random", "adaptive, placed anew"):
            assert 0.25 < by(figures, name, requester=requester).indicator < 0.75
    assert by(figures, "states.code", requester="adaptive").indicator > 0.9
    assert 0.2 < by(figures, "states.code", requester="adaptive, placed anew").indicator < 0.8
    assert by(figures, "states.code", requester="adaptive, placed anew").more["trainings_per_request"] == 1.25


def test_requests_come_from_the_shards_under_attack(digits: Digits) -> None:
    placement = np.random.default_rng(2).integers(N_SHARDS, size=len(digits.target))
    targeted = np.array([True, False, False, False])
    chosen = choose(outputs(digits.kernel, fit(digits, placement, N_SHARDS)), digits.target, targeted, 20)
    assert len(set(chosen.tolist())) == 20
    assert (placement[chosen] == 0).mean() > 0.8


def test_the_surest_lead_is_requested_first() -> None:
    sure = np.array([[0.95, 0.6, 0.1, 0.8], [0.2, 0.5, 0.9, 0.1]])  # [shard, record]
    said = np.stack([1 - sure, sure], axis=2)
    chosen = choose(said, np.ones(4, dtype=np.int64), np.array([True, False]), 2)
    assert chosen.tolist() == [0, 3]  # leads 0.75 and 0.7; record 1 leads by 0.1, record 2 is taken to be elsewhere


def test_published_answers_show_the_shard_that_forgot(digits: Digits) -> None:
    setting = Votes(repetitions=60, requests=40, sigmas=(0.0, 1.0, 64.0), asked=(1,), delta=1e-5)
    figures = measure_answers(setting, digits, N_SHARDS, np.random.default_rng(3))
    assert by(figures, "answers.size", published="vote shares").indicator > 0.7
    assert 0.3 < by(figures, "answers.size", published="random").indicator < 0.7
    assert 0.3 < by(figures, "answers.size", published="labels", sigma=64.0).indicator < 0.7
    epsilons = [by(figures, "answers.size", published="labels", sigma=sigma).more["epsilon"] for sigma in (1.0, 64.0)]
    assert epsilons[0] > 50 * epsilons[1] > 0


def test_an_adversary_sees_what_is_published_and_no_more() -> None:
    votes, target, rng = np.array([[1, 3], [3, 1]]), np.array([1, 1]), np.random.default_rng(4)
    assert seen(votes, target, None, 1, rng).tolist() == [0.75, 0.25]
    assert seen(votes, target, 0.0, 1, rng).tolist() == [1.0, 0.0]
    expected = normal_cdf(2 / (2 * math.sqrt(2)))
    assert seen(votes, target, 2.0, 20_000, rng) == pytest.approx([expected, 1 - expected], abs=0.02)


def test_retraining_does_not_repair_what_others_copied_but_noise_does() -> None:
    setting = Copycat(others=60, repetitions=3_000, sigmas=(0.0, 1.0, 16.0), asked=(1, 16))
    figures = measure_copycat(setting, np.random.default_rng(5))
    assert by(figures, "copycat.labels", sigma=0.0).indicator == 1.0
    # One label reaches the bound: the counts differ by exactly the root of two.
    assert by(figures, "copycat.labels", sigma=1.0, labels=1).indicator == pytest.approx(
        guess_bound(1.0, 1, 1), abs=0.05
    )
    assert by(figures, "copycat.labels", sigma=1.0, labels=16).indicator > 0.9
    assert by(figures, "copycat.labels", sigma=16.0, labels=1).indicator < 0.6
    for each in figures:
        assert each.bound is None or each.low <= each.bound


def test_noise_costs_accuracy_and_more_shards_pay_less(digits: Digits) -> None:
    setting = AccuracySetting(repetitions=3, n_shards=(4, 20), sigmas=(0.0, 4.0), labels=100, delta=1e-5)
    few, few_noisy, many, many_noisy = measure_accuracy(setting, digits, np.random.default_rng(6))
    assert few.test_accuracy > 0.7
    assert few.epsilon is None
    assert few.test_accuracy - few_noisy.test_accuracy > 2 * (many.test_accuracy - many_noisy.test_accuracy)
    assert few_noisy.epsilon == many_noisy.epsilon
    assert few_noisy.epsilon_afresh < many_noisy.epsilon_afresh


def test_bounds_are_those_of_two_normal_distributions() -> None:
    x, y = np.random.default_rng(7).standard_normal((2, 200_000))
    for sigma, queries, votes in ((4.0, 5, 1), (30.0, 50, 3)):
        mu = math.sqrt(queries) * votes * math.sqrt(2) / sigma
        assert pair_bound(sigma, queries, votes) == pytest.approx((x < y + mu).mean(), abs=0.01)
        assert guess_bound(sigma, queries, votes) == pytest.approx((y + mu / 2 > 0).mean(), abs=0.01)
    assert pair_bound(0.0, 5, 1) is guess_bound(0.0, 5, 1) is None


def test_pairs_of_equal_shards_count_half() -> None:
    assert below(np.array([1.0, 1.0, 2.0, 0.0]), np.array([True, False, False, False])) == 0.5
    assert below(np.array([0, 3, 3, 3]), np.array([True, False, False, False])) == 1.0


def test_intervals_are_wilson_s() -> None:
    shown = figure("n", {}, [1.0] * 45 + [0.0] * 55)
    assert (shown.low, shown.high) == pytest.approx((0.3561, 0.5476), abs=1e-4)


def test_all_of_it_is_written_and_repeatable(tmp_path: Path) -> None:
    setting = read_setting()
    tiny = Setting(
        seed=setting.seed,
        twins=replace(setting.twins, pairs=6, repetitions=4),
        copycat=replace(setting.copycat, repetitions=4),
        digits=replace(setting.digits, records=120, test_records=40),
        states=replace(setting.states, repetitions=2, requests=(5,), code_repetitions=2),
        votes=replace(setting.votes, repetitions=2, requests=5, asked=(1,)),
        accuracy=replace(setting.accuracy, repetitions=1, n_shards=(6,)),
    )
    documents = []
    for name in ("one.json", "two.json"):
        run(tiny, tmp_path / name)
        documents.append(json.loads((tmp_path / name).read_text()))
        documents[-1].pop("seconds")
    assert documents[0] == documents[1]
    names = {each["name"] for each in documents[0]["figures"]}
    assert names == {"twins.labels", "twins.random", "copycat.labels"} | {
        f"{part}.{what}" for part in ("states", "answers") for what in ("accuracy", "size")
    } | {"states.code"}
    assert len(documents[0]["accuracy"]) == len(setting.accuracy.sigmas)
