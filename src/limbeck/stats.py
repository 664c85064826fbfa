"""How sure a number is. Intervals hold the truth 95 times in 100, unless asked otherwise."""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy  # scipy.stats takes a second to import: it comes when it is first asked for
from jaxtyping import Float

Values = Float[np.ndarray, "n"]


class Estimate(NamedTuple):
    """A number and its interval."""

    value: float
    low: float
    high: float


def mean_ci(values: Values, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Estimate:
    """The mean with its bootstrap interval (BCa). One value, or equal values, give an interval without width."""
    return _bootstrap((_samples(values),), np.mean, "BCa", confidence, resamples, seed)


def iqm(values: Values, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Estimate:
    """The mean of the middle half, as Agarwal et al. (2021) recommend for few seeds, with its bootstrap interval (percentile)."""

    def middle(x: np.ndarray, axis: int = 0) -> np.ndarray:
        return scipy.stats.trim_mean(x, 0.25, axis=axis)

    return _bootstrap((_samples(values),), middle, "percentile", confidence, resamples, seed)


def ratio_ci(
    part: Values, whole: Values, zero: float | Values = 0.0, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """(mean(part) - zero) / (mean(whole) - zero), such as a student's share of its teacher, with its bootstrap interval.

    Args:
        part: one value per episode of the one that is measured.
        whole: one value per episode of the one that it is measured against.
        zero: what counts as nothing: the return of random play where returns may be negative. Where it was measured, one value per
            episode: their mean counts, and the interval takes in how well that is known.
        confidence: how often the interval holds the truth.
        resamples: draws of the bootstrap.
        seed: of those draws.

    Returns:
        NaNs where `whole` is not above `zero`: there is no share of nothing.
    """
    nothing = _samples(zero)
    level = float(nothing.mean())

    def ratio(a: np.ndarray, b: np.ndarray, *measured: np.ndarray, axis: int = 0) -> np.ndarray:
        base = np.mean(measured[0], axis=axis) if measured else level
        with np.errstate(divide="ignore", invalid="ignore"):
            return (np.mean(a, axis=axis) - base) / (np.mean(b, axis=axis) - base)

    if np.mean(_samples(whole)) <= level:
        return Estimate(math.nan, math.nan, math.nan)
    measured = (nothing,) if nothing.size > 1 else ()
    return _bootstrap((_samples(part), _samples(whole), *measured), ratio, "percentile", confidence, resamples, seed)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """A rate with Wilson's score interval, which stays within [0, 1] and has a width even at 0 of n.

    Raises:
        ValueError: there are no trials, or more successes than trials.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes of {n} trials make no rate")
    z = float(scipy.stats.norm.ppf(0.5 + confidence / 2))
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Estimate(rate, 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half)


def _samples(values: float | Values) -> np.ndarray:
    samples = np.asarray(values, np.float64).reshape(-1)
    if not samples.size:
        raise ValueError("no values to estimate from")
    return samples


def _bootstrap(
    samples: tuple[np.ndarray, ...], statistic: Callable, method: str, confidence: float, resamples: int, seed: int
) -> Estimate:
    value = float(statistic(*samples))
    if all(np.ptp(x) == 0 for x in samples):
        return Estimate(value, value, value)
    # Resampling one value alone says nothing about its spread; scipy refuses it.
    samples = tuple(x if x.size > 1 else np.repeat(x, 2) for x in samples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nearly constant data make BCa divide by zero: then the percentiles have to do
        for chosen in (method, "percentile"):
            rng = np.random.default_rng(seed)
            interval = scipy.stats.bootstrap(
                samples, statistic, n_resamples=resamples, confidence_level=confidence, method=chosen, rng=rng
            ).confidence_interval
            if np.isfinite(interval.low) and np.isfinite(interval.high):
                break
    return Estimate(value, float(interval.low), float(interval.high))
