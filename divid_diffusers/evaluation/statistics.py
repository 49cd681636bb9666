"""Figures with their uncertainty."""

import math

import numpy as np


def wilson_interval(successes: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % (for z = 1.96) Wilson interval of a proportion, as `(low, high)` in [0, 1] (Wilson 1927)."""
    if not 0 <= successes <= total or total < 1:
        raise ValueError(f"{successes} successes of {total} trials is no proportion.")
    share = successes / total
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def mean_interval(values: list[float], z: float = 1.96) -> tuple[float, float]:
    """Mean and half width of its 95 % normal interval."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.inf
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, z * math.sqrt(variance / len(values))


def pigeonhole_interval(
    values: np.ndarray, pairs: np.ndarray, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """
    Mean of one value per pair, and the ends of its 95 % interval over the members of the pairs: `(mean, low, high)`.

    [`wilson_interval`] takes pairs as independent, though few people perform in all of them. Here people are drawn anew with
    replacement, and a pair counts as often as the one of its members times as often as the other was drawn (the pigeonhole bootstrap,
    Owen 2007; one draw for both places, since here they are filled by the same people).

    Args:
        values (`np.ndarray` of shape `(P,)`): e.g. 1.0 where a swap is right, or the difference of two models.
        pairs (`np.ndarray` of shape `(P, 2)`): who is the static, and who the dynamic donor.
    """
    people, index = np.unique(pairs, return_inverse=True)
    if len(people) < 2:
        raise ValueError("One person in all pairs says nothing about others: at least 2 are needed.")
    first, second = index.reshape(pairs.shape).T
    drawn = np.random.RandomState(seed).multinomial(len(people), np.full(len(people), 1 / len(people)), draws)
    weights = drawn[:, first] * drawn[:, second]
    weights = weights[weights.any(axis=1)]
    low, high = np.quantile(weights @ values / weights.sum(axis=1), (0.025, 0.975))
    return float(np.mean(values)), float(low), float(high)
