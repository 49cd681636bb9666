"""
The swap test: does a clip decoded from A's static and B's dynamic code show A's identity and B's action? (paper, Table
1)

Judged beside it, by the same judge: the real clips and their plain reconstructions, which are what a swap can reach.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from .floors import nearest, shrunk
from .protocol import Disentangler, Judge
from .realism import disjoint, two_sample_test
from .statistics import pigeonhole_interval, wilson_interval


Labels = Mapping[str, Sequence[int]]


def ordered_pairs(num_clips: int, num_pairs: int | None = None, seed: int = 0) -> list[tuple[int, int]]:
    """
    All ordered pairs (static donor, dynamic donor) of different clips, or `num_pairs` of them drawn without
    replacement.
    """
    if num_clips < 2:
        raise ValueError(f"There is nothing to swap between {num_clips} clips: at least 2 are needed.")
    pairs = [(a, b) for a in range(num_clips) for b in range(num_clips) if a != b]
    if num_pairs is None or num_pairs >= len(pairs):
        return pairs
    chosen = np.random.RandomState(seed).permutation(len(pairs))[:num_pairs]
    return [pairs[i] for i in sorted(chosen)]


def harder_pairs(clips: torch.Tensor, labels: Labels, num_pairs: int, seed: int = 0) -> list[tuple[int, int]]:
    """
    Pairs that no collage of pixels gets right: for every static donor the dynamic donors that differ from it in all
    labels and whose first frames differ most (position, size, pose: mean squared error at 16 x 16 pixels). `num_pairs`
    of them, drawn; none where no two clips differ in all labels. Clips `(B, N, C, H, W)` in [0, 1].
    """
    first = shrunk(clips[:, :1])
    distance = torch.cdist(first, first)
    for each in labels.values():
        each = torch.as_tensor(each)
        distance[each[:, None] == each] = -1
    of_each = max(1, -(-num_pairs // len(clips)))
    far, donors = distance.topk(min(of_each, len(clips)), dim=1)
    pairs = [(a, int(b)) for a in range(len(clips)) for b, apart in zip(donors[a], far[a]) if apart >= 0]
    chosen = np.random.RandomState(seed).permutation(len(pairs))[:num_pairs]
    return [pairs[i] for i in sorted(chosen)]


class NearestClipJudge:
    """
    A `Judge` without a network: it names what the nearest of the given clips shows, in mean squared error of frames
    averaged down to 16 x 16. Weak, but it shares no weakness with one that was trained.

    Args:
        clips (`torch.Tensor` of shape `(T, N, C, H, W)`): real training clips in [0, 1].
        labels: for every factor the class of each.
    """

    def __init__(self, clips: torch.Tensor, labels: Labels):
        self.small, self.labels = shrunk(clips), {name: torch.as_tensor(each) for name, each in labels.items()}

    def __call__(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        found = nearest(shrunk(clips), self.small)
        return {
            name: torch.nn.functional.one_hot(each[found], int(each.max()) + 1).float()
            for name, each in self.labels.items()
        }


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
    harder: Sequence[tuple[int, int]] = (),
    people: Sequence[int] | None = None,
    other_judges: Mapping[str, Judge] | None = None,
    texture: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> dict:
    """
    Args:
        model: see [`Disentangler`].
        judge: see `Judge`.
        clips (`torch.Tensor` of shape `(B, N, C, H, W)`): held-out clips in [0, 1].
        labels: for every factor the class of each clip.
        static_factors, dynamic_factors: which factors belong to s and to d. "static" is right where all of its factors
            are.
        pairs: (static donor, dynamic donor); default: all ordered pairs.
        progress: wraps the iterable of batches, e.g. in tqdm.
        harder: more pairs, scored apart; see [`harder_pairs`].
        people: who is in each clip, for intervals over people.
        other_judges: asked for the same swaps, by name; they know at least the factors.
        texture: clips to features `(B, F)`, for realism; see [`ClipJudge.texture`].

    Returns:
        A dict ready for JSON. `real`, `reconstructions` and, under `swaps`, all pairs, those that differ in
        everything, those that share the static and those that share the dynamic labels, and the harder ones: each
        `{n, static, dynamic, joint}` with accuracies as [share, low, high], 95 % Wilson intervals. Those treat pairs
        as independent, though each clip is in many; with `people`, `joint_over_people` is [share, low, high] by
        [`pigeonhole_interval`]. **Joint where donors differ in both is the figure to read**: a copy of one donor has
        none of it. `follows`: for every factor, over the pairs whose donors differ in it, how often the output shows
        the static donor's class, the dynamic donor's, or neither. `other_judges`: by name `real`, `swaps` as above,
        and `agreement`: how often it and the first judge say alike whether a swap is right in everything. `realism`:
        [`two_sample_test`] of half of the real clips against swaps of the other half. `pairs`, with `people`: of the
        pairs that differ in both and of the harder ones who is in each, and by which judge it is right in everything;
        see [`paired`].

    Raises ValueError for labels that cannot be judged, a judge of another set, and codes or clips that are not finite.
    """
    factors = [*static_factors, *dynamic_factors]
    check_labels(labels, len(clips), static_factors, dynamic_factors)
    pairs = ordered_pairs(len(clips)) if pairs is None else list(pairs)
    truth = {factor: np.asarray(labels[factor]) for factor in factors}
    judges = {"": judge} | dict(other_judges or {})
    whole = [clips[i : i + batch_size] for i in range(0, len(clips), batch_size)]
    real = {name: judged_in_batches(each, whole, factors) for name, each in judges.items()}

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
    of_real, of_swaps = disjoint(len(clips), pairs)
    of_swaps = set(np.random.RandomState(0).permutation(of_swaps)[: len(of_real)].tolist())
    told: dict[str, list] = {name: [] for name in judges}
    features, place = [], 0
    for batch in progress(decode([*pairs, *harder])):
        for name, each in judges.items():
            told[name].append(judged(each, batch, factors))
        rows = [row for row in range(len(batch)) if place + row in of_swaps]
        if texture is not None and rows:
            features.append(texture(batch[rows]))
        place += len(batch)
    shown = {
        name: {factor: np.concatenate([part[factor] for part in parts]) for factor in factors}
        for name, parts in told.items()
    }
    a, b = np.array([*pairs, *harder]).T
    listed = np.arange(len(a)) < len(pairs)
    donor = {factor: truth[factor][a if factor in static_factors else b] for factor in factors}
    same_static = np.all([truth[f][a] == truth[f][b] for f in static_factors], axis=0)
    same_dynamic = np.all([truth[f][a] == truth[f][b] for f in dynamic_factors], axis=0)
    groups = {
        "all": listed,
        "different in both": listed & ~same_static & ~same_dynamic,
        "same static": listed & same_static,
        "same dynamic": listed & same_dynamic,
        "harder": ~listed,
    }
    donors = None if people is None else np.asarray(people)[np.stack([a, b], axis=1)]

    def scores(predicted, expected, rows=slice(None), members=None):
        right = {factor: (predicted[factor] == expected[factor])[rows] for factor in factors}
        result = accuracies(right, static_factors, dynamic_factors)
        if members is not None and len(np.unique(members[rows])) > 1:
            joint = np.all(list(right.values()), axis=0).astype(float)
            result["joint_over_people"] = list(pigeonhole_interval(joint, members[rows]))
        return result

    def of_groups(predicted):
        return {name: scores(predicted, donor, rows, donors) for name, rows in groups.items() if rows.any()}

    def right_in_all(predicted):
        return np.all([predicted[factor] == donor[factor] for factor in factors], axis=0)

    result = {
        "real": scores(real[""], truth),
        "reconstructions": scores(reconstructed, truth),
        "swaps": of_groups(shown[""]),
        "follows": {f: follows(shown[""][f][listed], truth[f][a[listed]], truth[f][b[listed]]) for f in factors},
        "realism": two_sample_test(texture(clips[of_real]), torch.cat(features)) if features else None,
    }
    if donors is not None:
        # Pair by pair, so that two models can be compared on the same ones.
        result["pairs"] = {
            name: {
                "people": " ".join(f"{first},{second}" for first, second in donors[groups[name]]),
                "right": {each: ones(right_in_all(told)[groups[name]]) for each, told in shown.items()},
            }
            for name in ("different in both", "harder")
            if groups[name].any()
        }
    if other_judges:
        result["other_judges"] = {
            name: {
                "real": scores(real[name], truth),
                "swaps": of_groups(shown[name]),
                "agreement": share((right_in_all(shown[name]) == right_in_all(shown[""]))[listed]),
            }
            for name in other_judges
        }
    return result


def ones(right: np.ndarray) -> str:
    """One digit for each, 1 where it is right."""
    return "".join("01"[each] for each in right.astype(int))


def paired(one: Mapping, other: Mapping, group: str, judge: str = "") -> tuple[float, float, float] | None:
    """
    By how much one model's joint is above another's, of the same pairs: `(mean, low, high)` with the 95 % interval
    over people. Both are what [`swap_test`] returned; None where one of them lacks what is asked.
    """
    rows = [each.get("pairs", {}).get(group) for each in (one, other)]
    if None in rows or any(judge not in row["right"] for row in rows) or rows[0]["people"] != rows[1]["people"]:
        return None
    people = np.array([each.split(",") for each in rows[0]["people"].split()], dtype=int)
    first, second = (np.array(list(row["right"][judge]), dtype=float) for row in rows)
    return pigeonhole_interval(first - second, people) if len(np.unique(people)) > 1 else None


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
