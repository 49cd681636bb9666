"""The swap test: does a clip decoded from A's static and B's dynamic code show A's identity and B's action? (paper, Table 1)

Judged beside it, by the same judge: the real clips and their plain reconstructions, which are what a swap can reach.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from .protocol import Disentangler, Judge
from .statistics import wilson_interval


Labels = Mapping[str, Sequence[int]]


def ordered_pairs(num_clips: int, num_pairs: int | None = None, seed: int = 0) -> list[tuple[int, int]]:
    """All ordered pairs (static donor, dynamic donor) of different clips, or `num_pairs` of them drawn without replacement."""
    if num_clips < 2:
        raise ValueError(f"There is nothing to swap between {num_clips} clips: at least 2 are needed.")
    pairs = [(a, b) for a in range(num_clips) for b in range(num_clips) if a != b]
    if num_pairs is None or num_pairs >= len(pairs):
        return pairs
    chosen = np.random.RandomState(seed).permutation(len(pairs))[:num_pairs]
    return [pairs[i] for i in sorted(chosen)]


def check_labels(
    labels: Labels, num_clips: int, static_factors: Sequence[str], dynamic_factors: Sequence[str]
) -> None:
    """Refuse, before hours of decoding, what cannot be judged."""
    for factor in (*static_factors, *dynamic_factors):
        if factor not in labels:
            raise ValueError(f"The clips have no labels of {factor!r}, only of {', '.join(labels)}.")
        if len(labels[factor]) != num_clips:
            raise ValueError(f"There are {len(labels[factor])} labels of {factor!r} for {num_clips} clips.")
        if len(set(labels[factor])) < 2:
            raise ValueError(f"All clips have one {factor!r}: a swap cannot change it, so nothing would be measured.")


@torch.no_grad()
def judged(judge: Judge, clips: torch.Tensor, factors: Sequence[str]) -> dict[str, np.ndarray]:
    """The judge's most probable class of every factor, `(B,)` each."""
    probabilities = judge(clips)
    missing = [factor for factor in factors if factor not in probabilities]
    if missing:
        raise ValueError(
            f"The judge does not know {', '.join(missing)}, only {', '.join(probabilities)}: is it of this set?"
        )
    return {factor: probabilities[factor].argmax(-1).cpu().numpy() for factor in factors}


@torch.no_grad()
def swap_test(
    model: Disentangler,
    judge: Judge,
    clips: torch.Tensor,
    labels: Labels,
    static_factors: Sequence[str] = ("identity",),
    dynamic_factors: Sequence[str] = ("action",),
    pairs: Sequence[tuple[int, int]] | None = None,
    batch_size: int = 32,
    progress: Callable = lambda batches: batches,
) -> dict:
    """
    Args:
        model: see [`Disentangler`].
        judge: see `Judge`.
        clips (`torch.Tensor` of shape `(B, N, C, H, W)`): held-out clips in [0, 1].
        labels: for every factor the class of each clip.
        static_factors, dynamic_factors: which factors belong to s and to d. "static" is right where all of its factors are.
        pairs: (static donor, dynamic donor); default: all ordered pairs.
        progress: wraps the iterable of batches, e.g. in tqdm.

    Returns:
        A dict ready for JSON. `real`, `reconstructions` and, under `swaps`, all pairs, those that differ in everything, those that
        share the static and those that share the dynamic labels: each `{n, static, dynamic, joint}` with accuracies as
        [share, low, high], 95 % Wilson intervals. Intervals treat pairs as independent, though each clip is in many.
        `follows`: for every factor, over the pairs whose donors differ in it, how often the output shows the static donor's class,
        the dynamic donor's, or neither.

    Raises ValueError for labels that cannot be judged, a judge of another set, and codes or clips that are not finite.
    """
    factors = [*static_factors, *dynamic_factors]
    check_labels(labels, len(clips), static_factors, dynamic_factors)
    pairs = ordered_pairs(len(clips)) if pairs is None else list(pairs)
    truth = {factor: np.asarray(labels[factor]) for factor in factors}
    real = judged_in_batches(judge, [clips[i : i + batch_size] for i in range(0, len(clips), batch_size)], factors)

    codes = [model.encode(clips[i : i + batch_size]) for i in range(0, len(clips), batch_size)]
    static, dynamic = (torch.cat(parts) for parts in zip(*codes, strict=True))
    for name, code in (("static", static), ("dynamic", dynamic)):
        if not code.isfinite().all():
            raise ValueError(f"The {name} codes hold NaN or infinity: was the model's training broken?")

    def decode(donors):
        """Decoded clips of (static donor, dynamic donor) pairs, batch by batch."""
        for i in range(0, len(donors), batch_size):
            a, b = map(list, zip(*donors[i : i + batch_size], strict=True))
            decoded = model.decode(static[a], dynamic[b])
            if decoded.shape[1:] != clips.shape[1:]:
                raise ValueError(
                    f"The model decodes {tuple(decoded.shape[1:])}, but the clips are {tuple(clips.shape[1:])}."
                )
            yield decoded

    reconstructed = judged_in_batches(judge, decode([(i, i) for i in range(len(clips))]), factors)
    a, b = np.array(pairs).T
    swapped = judged_in_batches(judge, progress(decode(pairs)), factors)
    donor = {factor: truth[factor][a if factor in static_factors else b] for factor in factors}
    same_static = np.all([truth[f][a] == truth[f][b] for f in static_factors], axis=0)
    same_dynamic = np.all([truth[f][a] == truth[f][b] for f in dynamic_factors], axis=0)
    groups = {
        "all": np.ones(len(pairs), bool),
        "different in both": ~same_static & ~same_dynamic,
        "same static": same_static,
        "same dynamic": same_dynamic,
    }

    def scores(predicted, expected, rows=slice(None)):
        right = {factor: (predicted[factor] == expected[factor])[rows] for factor in factors}
        return accuracies(right, static_factors, dynamic_factors)

    return {
        "real": scores(real, truth),
        "reconstructions": scores(reconstructed, truth),
        "swaps": {name: scores(swapped, donor, rows) for name, rows in groups.items() if rows.any()},
        "follows": {factor: follows(swapped[factor], truth[factor][a], truth[factor][b]) for factor in factors},
    }


def judged_in_batches(judge: Judge, batches, factors: Sequence[str]) -> dict[str, np.ndarray]:
    parts = [judged(judge, batch, factors) for batch in batches]
    return {factor: np.concatenate([part[factor] for part in parts]) for factor in factors}


def accuracies(right: Mapping[str, np.ndarray], static_factors: Sequence[str], dynamic_factors: Sequence[str]) -> dict:
    static = np.all([right[factor] for factor in static_factors], axis=0)
    dynamic = np.all([right[factor] for factor in dynamic_factors], axis=0)
    shares = {"static": static, "dynamic": dynamic, "joint": static & dynamic}
    return {"n": len(static)} | {name: share(each) for name, each in shares.items()}


def share(right: np.ndarray) -> list[float]:
    return [float(np.mean(right)), *wilson_interval(int(np.sum(right)), len(right))]


def follows(shown: np.ndarray, of_static_donor: np.ndarray, of_dynamic_donor: np.ndarray) -> dict | None:
    """None where no pair of donors differs."""
    rows = of_static_donor != of_dynamic_donor
    if not rows.any():
        return None
    shown, of_static_donor, of_dynamic_donor = shown[rows], of_static_donor[rows], of_dynamic_donor[rows]
    static, dynamic = shown == of_static_donor, shown == of_dynamic_donor
    sources = {"static donor": static, "dynamic donor": dynamic, "neither": ~(static | dynamic)}
    return {"n": int(rows.sum())} | {name: share(each) for name, each in sources.items()}
