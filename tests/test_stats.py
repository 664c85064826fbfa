"""Intervals against closed forms."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm, trim_mean

from limbeck import stats


def test_mean_interval_is_near_the_normal_one_for_normal_data():
    x = np.random.default_rng(0).normal(3, 2, 2000)
    found = stats.mean_ci(x)
    half = norm.ppf(0.975) * x.std(ddof=1) / np.sqrt(2000)
    assert found.value == pytest.approx(x.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.06)


def test_mean_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [stats.mean_ci(rng.exponential(size=60), confidence=0.9, resamples=400) for _ in range(200)]
    assert 0.82 <= np.mean([each.low <= 1 <= each.high for each in found]) <= 0.97


def test_the_same_seed_gives_the_same_interval():
    x = np.random.default_rng(0).normal(size=50)
    assert stats.mean_ci(x) == stats.mean_ci(x) != stats.mean_ci(x, seed=1)


@pytest.mark.parametrize("estimate", [stats.mean_ci, stats.iqm])
@pytest.mark.parametrize("values", [[4.0], [4.0, 4.0], np.full(100, 4.0), [True] * 3])
def test_constant_values_have_no_width(estimate, values):
    expected = float(values[0])
    assert estimate(values) == (expected, expected, expected)


def test_nearly_constant_values_give_a_finite_interval():
    found = stats.mean_ci([0.0] * 99 + [1.0])
    assert 0 <= found.low <= 0.01 <= found.high < 0.1


def test_iqm_is_the_mean_of_the_middle_half():
    assert stats.iqm([0, 0, 1, 2, 3, 4, 100, 1000]).value == 2.5
    x = np.random.default_rng(0).normal(size=41)
    found = stats.iqm(x)
    assert found.value == pytest.approx(trim_mean(x, 0.25)) and found.low < found.value < found.high


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (5, 10), (500, 512), (512, 512)])
def test_wilson_against_scipy(successes, n):
    exact = binomtest(successes, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(stats.wilson(successes, n), (successes / n, exact.low, exact.high), atol=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_rate(successes, n):
    with pytest.raises(ValueError, match="make no rate"):
        stats.wilson(successes, n)


def test_ratio_interval_is_near_the_delta_method():
    rng = np.random.default_rng(0)
    part, whole = rng.random(4000) < 0.6, rng.random(4000) < 0.8
    found = stats.ratio_ci(part, whole)
    p, w = part.mean(), whole.mean()
    half = norm.ppf(0.975) * p / w * np.sqrt(((1 - p) / p + (1 - w) / w) / 4000)
    assert found.value == pytest.approx(p / w)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_ratio_of_negative_returns_is_counted_from_random_play():
    found = stats.ratio_ci(np.array([-4.0, -6.0]), np.array([-2.0, -2.0]), zero=-8.0)
    assert found.value == pytest.approx(0.5) and found.low < 0.5 < found.high


def test_what_was_measured_as_nothing_widens_the_interval():
    rng = np.random.default_rng(0)
    part, whole, nothing = (rng.normal(mean, 1.0, 400) for mean in (-4.0, -2.0, -8.0))
    found, surer = stats.ratio_ci(part, whole, zero=nothing), stats.ratio_ci(part, whole, zero=float(nothing.mean()))
    assert found.value == pytest.approx((part.mean() - nothing.mean()) / (whole.mean() - nothing.mean()))
    assert found.value == pytest.approx(surer.value) and found.low < surer.low < surer.high < found.high
    # d ratio / d nothing = (part - whole) / (whole - nothing)^2 = -2 / 36, which is a third of d ratio / d part = 1 / 6
    half = norm.ppf(0.975) / 6 * np.sqrt((1 + (4 / 6) ** 2 + (2 / 6) ** 2) / 400)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)


def test_there_is_no_share_of_nothing():
    assert all(math.isnan(x) for x in stats.ratio_ci([0.0, 1.0], [0.0, 0.0]))
    assert all(math.isnan(x) for x in stats.ratio_ci([-3.0, -1.0], [-4.0, -2.0], zero=[-3.0, -2.0]))


def test_ratio_of_one_value_against_many():
    assert stats.ratio_ci([1.0], [1.0, 2.0, 3.0]).value == 0.5


@pytest.mark.parametrize("call", [lambda: stats.mean_ci([]), lambda: stats.ratio_ci([], [1.0])])
def test_no_values_is_an_error(call):
    with pytest.raises(ValueError, match="no values"):
        call()
