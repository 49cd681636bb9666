"""
Can decoded clips be told from real ones? A sharp collage of two clips may be named as wished and still be no clip.
"""

from collections.abc import Sequence

import numpy as np
import torch

from .statistics import wilson_interval


FOLDS = 5


def two_sample_test(real: torch.Tensor, decoded: torch.Tensor, seed: int = 0) -> list[float] | None:
    """
    The classifier two-sample test (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests"): how often a
    classifier, trained on some real and some decoded clips, tells of others which kind they are. 0.5 is
    indistinguishable, 1 is told at once.

    The classifier is logistic regression on standardised features, cross-validated in 5 folds; both kinds are drawn
    down to equal numbers. No clip may be in both samples, since its twin would be told to be of the other kind: see
    [`disjoint`].

    Args:
        real, decoded (`torch.Tensor` of shape `(B, F)`): features of clips, such as [`ClipJudge.texture`].

    Returns:
        `[accuracy, low, high]` with a 95 % Wilson interval, or None where there are fewer than 10 clips of a kind.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: features that are not finite.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError("Realism needs scikit-learn: pip install 'divid_diffusers[eval]'.") from error

    count = min(len(real), len(decoded))
    if count < 2 * FOLDS:
        return None
    if not (real.isfinite().all() and decoded.isfinite().all()):
        raise ValueError("The features of some clips are NaN or infinite: look at the judge, and at what was decoded.")
    random = np.random.RandomState(seed)
    samples = [np.asarray(each.double())[random.permutation(len(each))[:count]] for each in (real, decoded)]
    features, kinds = np.concatenate(samples), np.repeat([0, 1], count)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    right = int((cross_val_predict(classifier, features, kinds, cv=folds) == kinds).sum())
    return [right / len(kinds), *wilson_interval(right, len(kinds))]


def disjoint(num_clips: int, pairs: Sequence[tuple[int, int]], seed: int = 0) -> tuple[list[int], list[int]]:
    """
    Half of the clips, drawn, to be the real sample; and the places of the pairs whose donors are both of the other
    half.
    """
    order = np.random.RandomState(seed).permutation(num_clips)
    real = set(order[: num_clips // 2].tolist())
    return sorted(real), [place for place, pair in enumerate(pairs) if not real & set(pair)]
