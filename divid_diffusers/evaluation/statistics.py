"""Figures with their uncertainty: 95 % intervals, those over people included."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit  # quantiles of Student's t, as scipy.stats.t.ppf but a hundred times faster
from scipy.stats import binomtest


LEAST_PEOPLE = 5  # below it no interval over people holds as often as it says


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """
    The 95 % Wilson interval of a proportion, as `(low, high)` in [0, 1] (Wilson 1927). Raises ValueError for no
    proportion.
    """
    if not 0 <= successes <= total or total < 1:
        raise ValueError(f"{successes} successes of {total} trials is no proportion.")
    interval = binomtest(int(successes), int(total)).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """
    Mean and half width of its 95 % interval, by Student's t, since few values tell little about their own spread:
    infinite of a single one. Raises ValueError where there are none.
    """
    if not len(values):
        raise ValueError("There is no value to take the mean of.")
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float(values.mean()), math.inf
    return float(values.mean()), float(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values)))


def pigeonhole_interval(
    values: np.ndarray, pairs: np.ndarray, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """
    Mean of one value per pair, and the ends of its 95 % interval over the members of the pairs: `(mean, low, high)`.

    [`wilson_interval`] takes pairs as independent, though few people perform in all of them. Here people are drawn
    anew with replacement, and a pair counts as often as the one of its members times as often as the other was drawn
    (the pigeonhole bootstrap, Owen 2007; one draw for both places, since here they are filled by the same people). A
    pair of one person with itself counts as often as that person was drawn. Such pairs are averaged apart, and keep
    their share of all: swaps within a person are easier, and how many there are is the design, not chance. The
    interval is the mean and Student's t times the standard deviation over draws, times n / (n - 1), since drawing n
    people from n varies too little, for each of the two places by the root of that; percentiles of few people's draws
    are far too narrow. Where all values are in [0, 1] so is the interval.

    Args:
        values (`np.ndarray` of shape `(P,)`): e.g. 1.0 where a swap is right, or the difference of two models.
        pairs (`np.ndarray` of shape `(P, 2)`): who is the static, and who the dynamic donor.

    Returns:
        The ends are infinite where they cannot be told: with fewer than 5 people, or where most draws leave no pair.

    Raises:
        ValueError: one person in all pairs, no pairs, values that are not finite or not as many as the pairs.
    """
    values, pairs = np.asarray(values, dtype=float), np.asarray(pairs)
    if pairs.shape != (len(values), 2) or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"An interval takes one finite value for each pair, but there are values {values.shape} and pairs "
            f"{pairs.shape}, or "
            "some values are NaN or infinite."
        )
    people, index = np.unique(pairs, return_inverse=True)
    if len(people) < 2:
        raise ValueError("One person in all pairs says nothing about others: at least 2 are needed.")
    mean, n = float(values.mean()), len(people)
    first, second = index.reshape(pairs.shape).T
    same = first == second
    drawn = np.random.RandomState(seed).multinomial(n, np.full(n, 1 / n), draws).astype(float)
    estimate = np.zeros(draws)
    for rows in (same, ~same):
        if rows.any():
            sums, counts = np.zeros((2, n, n))
            np.add.at(sums, (first[rows], second[rows]), values[rows])
            np.add.at(counts, (first[rows], second[rows]), 1)
            weigh = _once if rows is same else _twice
            with np.errstate(invalid="ignore"):  # a draw without such a pair says nothing
                estimate += rows.mean() * weigh(drawn, sums) / weigh(drawn, counts)
    told = np.isfinite(estimate)
    if n < LEAST_PEOPLE or told.mean() < 0.5:
        return mean, -math.inf, math.inf
    half = stdtrit(n - 1, 0.975) * estimate[told].std(ddof=1) * n / (n - 1)
    low, high = mean - half, mean + half
    if values.min() >= 0 and values.max() <= 1:
        low, high = max(low, 0.0), min(high, 1.0)
    return mean, float(low), float(high)


def _once(drawn: np.ndarray, table: np.ndarray) -> np.ndarray:
    return drawn @ np.diag(table)


def _twice(drawn: np.ndarray, table: np.ndarray) -> np.ndarray:
    return ((drawn @ table) * drawn).sum(axis=1)
