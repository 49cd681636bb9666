"""Figures with their uncertainty."""

import math


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
