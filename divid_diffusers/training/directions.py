"""Principal directions of tokens, and how much of each a label explains."""

from collections.abc import Mapping

import numpy as np


def principal_directions(tokens: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    r"""
    The `count` directions in which tokens vary most: the eigenvectors of their covariance, by a singular value
    decomposition of the tokens less their mean.

    Args:
        tokens (`(n, S)`): a token of each clip.
        count (`int`): at most so many; fewer where the tokens vary in fewer dimensions.

    Returns:
        `(k, S)` float32: each direction times the standard deviation along it, with the sign by which its largest
        number is positive (our choice: a sign of its own it has none); `(k,)`: the share of the variance along each.

    Raises:
        ValueError: fewer than two tokens, tokens that are not finite, tokens that are all the same.
    """
    tokens = np.asarray(tokens, np.float64)
    if len(tokens) < 2:
        raise ValueError(f"There are {len(tokens)} tokens: directions need at least two clips.")
    if not np.isfinite(tokens).all():
        raise ValueError("The tokens contain NaN or infinity: check the checkpoint.")
    _, values, rows = np.linalg.svd(tokens - tokens.mean(0), full_matrices=False)
    if values[0] < 1e-6:
        raise ValueError("All clips have the same token, so there is no direction to go: check the checkpoint.")
    kept = min(count, int((values > 1e-4 * values[0]).sum()))
    rows, deviations = rows[:kept], values[:kept] / np.sqrt(len(tokens) - 1)
    signs = np.sign(rows[np.arange(kept), np.abs(rows).argmax(1)])
    return (rows * (signs * deviations)[:, None]).astype(np.float32), (values**2 / (values**2).sum())[:kept]


def explained_share(scores: np.ndarray, label: np.ndarray) -> float | None:
    r"""
    The share of the variance of scores that a label explains, corrected for how much it would by chance (Wherry 1931):

        1 - (1 - R^2) (n - 1) / (n - p - 1),    at least 0

    where R^2 is that of the least-squares fit. Of classes, for which p + 1 is their number, it is the correlation
    ratio eta^2, corrected (Kelley's epsilon^2); of p numbers, such as a colour, the multiple correlation.

    Args:
        scores (`(n,)`): of each clip.
        label: integers `(n,)`: classes; or floats `(n,)` or `(n, p)`: numbers.

    Returns:
        None where the label cannot tell: one class, or fewer than two clips for each class or number on average.
    """
    scores, label = np.asarray(scores, np.float64), np.asarray(label)
    if label.dtype.kind in "iub":
        label = (label[:, None] == np.unique(label)[1:]).astype(np.float64)
    design = label.reshape(len(label), -1).astype(np.float64)
    design = design[:, design.std(0) > 0] if design.size else design
    freedom = len(scores) - design.shape[1] - 1
    spread = scores - scores.mean()
    if not design.shape[1] or len(scores) < 2 * (design.shape[1] + 1) or not spread.any():
        return None
    design = design - design.mean(0)
    rest = spread - design @ np.linalg.lstsq(design, spread, rcond=None)[0]
    return float(max(0.0, 1 - (rest @ rest) / (spread @ spread) * (len(scores) - 1) / freedom))


def explain(tokens: np.ndarray, directions: np.ndarray, labels: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
    """
    For each direction `(k, S)`, by label, [`explained_share`] of the tokens' `(n, S)` coordinates along it; labels
    that cannot tell are left out.
    """
    shares = []
    for direction in directions.astype(np.float64):
        scores = np.asarray(tokens, np.float64) @ direction
        found = {name: explained_share(scores, label) for name, label in labels.items()}
        shares.append({name: round(share, 3) for name, share in found.items() if share is not None})
    return shares
