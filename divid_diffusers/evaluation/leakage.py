"""
Leakage: what a fresh classifier finds in each code of a frozen encoder, where it should be and where it should not.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from ..training.losses import orthogonality_loss
from .statistics import wilson_interval


FLOOR_SIDE = 16  # pixels per side of the frames that the floors are read from
PENALTIES = [0.001, 0.01, 0.1, 1, 10, 100]  # inverse, as scikit-learn's C
STATIC_CODES = ("s", "first frame")  # of what the probes see; the others are dynamic


@dataclass
class LabelledCodes:
    """
    Codes of one split's clips, and what the clips show; arrays or tensors on the CPU.

    Attributes:
        static (`(B, S)`), dynamic (`(B, N, D)`): the codes.
        static_factors, dynamic_factors (`dict[str, (B,) int]`): labels that s should hold, such as `identity`, and
            labels that d should hold, such as `action`.
        clips (`(B, N, C, H, W)`, *optional*): the clips themselves, for the floors.
    """

    static: np.ndarray
    dynamic: np.ndarray
    static_factors: dict[str, np.ndarray]
    dynamic_factors: dict[str, np.ndarray]
    clips: torch.Tensor | None = None

    @property
    def factors(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(labels) for name, labels in (self.static_factors | self.dynamic_factors).items()}

    def features(self) -> dict[str, np.ndarray]:
        """What the probes see, `(B, features)` each: s, the mean of d over time, and all d_i in their order."""
        static, dynamic = np.asarray(self.static, np.float32), np.asarray(self.dynamic, np.float32)
        return {"s": static, "d mean": dynamic.mean(axis=1), "d flat": dynamic.reshape(len(dynamic), -1)}

    def pixels(self) -> dict[str, np.ndarray]:
        """
        The same of a "code" that nobody trained: first frame and residuals `x_i - x_1`, averaged down to 16 x 16.
        """
        clips = torch.as_tensor(self.clips).float()
        small = F.adaptive_avg_pool2d(clips.flatten(0, 1), FLOOR_SIDE).unflatten(0, clips.shape[:2])
        residuals = (small[:, 1:] - small[:, :1]).numpy()
        names = ("first frame", "residuals mean", "residuals flat")
        arrays = (small[:, 0].flatten(1).numpy(), residuals.mean(axis=1), residuals)
        return {name: array.reshape(len(array), -1) for name, array in zip(names, arrays)}


def measure_leakage(train: LabelledCodes, test: LabelledCodes, seed: int = 0) -> dict:
    r"""
    Probes from each code to each factor, trained on `train` and scored on `test`. S->S and D->D are what a code is
    for; S->D and D->S are leaks:

        leakage = ( acc_S->D + acc_D->S ) / 2

    with the linear probe and d averaged over time, each accuracy being a mean over the factors of its kind. Read it
    beside S->S and D->D, since codes that hold nothing leak nothing; above chance, since chance is part of it; and
    with the probes of d in its order, since a mean over time hides what only the order tells.

    The probes, both on standardised features: `linear` is logistic regression, its penalty chosen by cross-validation
    on the training clips, since one too strong would hide a leak; `mlp` has one hidden layer of 64 and stops early on
    a tenth of the training clips, which on a few hundred can make it the weaker. The floors are the same probes on
    pixels: nothing factored.

    Source: the paper's "leakage", in words only. Probes, their settings, the mean over time and the floors are our
    choice.

    Args:
        train, test ([`LabelledCodes`]): codes of one frozen encoder. With `clips` in both, floors are measured too.
        seed (`int`): of the MLPs and of the folds.

    Returns:
        Nested `dict`, ready for JSON: `n_train`, `n_test`, `seed`; `factors` (name -> `"static"` or `"dynamic"`);
        `chance` (factor -> score of always answering the commonest training label); `probes` (probe -> code -> factor
        -> score) and, likewise or `None`, `floors`; `leakage` with `accuracy`, `chance` and `above_chance`;
        `orthogonality`, equation 4 on the test codes, or `None` where S != D. A score is `accuracy`, its 95 % Wilson
        interval `low` to `high`, `correct`, `n`.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: codes with NaN, labels that do not fit them, a factor with one value only, classes of the test
            clips that no training clip shows, or training classes with a single clip, too few to be learnt and
            validated by.
    """
    _check(train, test)
    kinds = dict.fromkeys(train.static_factors, "static") | dict.fromkeys(train.dynamic_factors, "dynamic")
    chance = {name: _chance(train.factors[name], test.factors[name]) for name in kinds}
    probes = _probe_all(train.features(), test.features(), train.factors, test.factors, seed)
    has_clips = train.clips is not None
    floors = _probe_all(train.pixels(), test.pixels(), train.factors, test.factors, seed) if has_clips else None
    static, dynamic = (torch.tensor(np.asarray(code, np.float32)) for code in (test.static, test.dynamic))
    return {
        "n_train": len(train.static),
        "n_test": len(static),
        "seed": seed,
        "factors": kinds,
        "chance": chance,
        "probes": probes,
        "floors": floors,
        "leakage": _paper_leakage(probes["linear"], chance, kinds),
        "orthogonality": orthogonality_loss(static, dynamic).item() if static.shape[-1] == dynamic.shape[-1] else None,
    }


def leakage_table(result: dict) -> str:
    """
    What [`measure_leakage`] returned, or the same read back from JSON, as a Markdown table with a line of totals.
    """
    lines = [
        f"Probes trained on {result['n_train']} clips, scored on {result['n_test']}; accuracy in %, 95 % interval.",
        "",
        "| from | to | | linear | MLP | chance |",
        "|---|---|---|---|---|---|",
    ]
    for probes in (result["probes"], result["floors"]):
        for code in probes["linear"] if probes else ():
            for factor, kind in result["factors"].items():
                scores = [probes[probe][code][factor] for probe in ("linear", "mlp")]
                cells = [f"{100 * x['accuracy']:.1f} [{100 * x['low']:.1f}, {100 * x['high']:.1f}]" for x in scores]
                cells.append(f"{100 * result['chance'][factor]['accuracy']:.1f}")
                direction = f"{'S' if code in STATIC_CODES else 'D'}->{kind[0].upper()}"
                lines.append(f"| {code} | {factor} | {direction} | {' | '.join(cells)} |")
    leakage, orthogonality = result["leakage"], result["orthogonality"]
    lines += [
        "",
        f"Leakage, (S->D + D->S) / 2 with the linear probe and d averaged over time: {100 * leakage['accuracy']:.1f}, "
        "of which "
        f"{100 * leakage['above_chance']:.1f} above chance. L_orth: "
        + ("undefined, s and d differ in width." if orthogonality is None else f"{orthogonality:.2g}."),
    ]
    return "\n".join(lines) + "\n"


def _paper_leakage(linear: dict, chance: dict, kinds: dict[str, str]) -> dict[str, float]:
    def leaked(scores: dict, kind: str) -> float:
        return float(np.mean([scores[name]["accuracy"] for name in kinds if kinds[name] == kind]))

    accuracy = (leaked(linear["s"], "dynamic") + leaked(linear["d mean"], "static")) / 2
    by_chance = (leaked(chance, "dynamic") + leaked(chance, "static")) / 2
    return {"accuracy": accuracy, "chance": by_chance, "above_chance": accuracy - by_chance}


def _probe_all(train: dict, test: dict, train_factors: dict, test_factors: dict, seed: int) -> dict:
    """Scores as probe -> code -> factor -> score; features `(B, features)` by code, labels `(B,)` by factor."""
    scores: dict[str, dict] = {"linear": {}, "mlp": {}}
    for code, features in train.items():
        for factor, labels in train_factors.items():
            for probe, classifier in _classifiers(labels, seed).items():
                told = classifier.fit(features, labels).predict(test[code])
                scores[probe].setdefault(code, {})[factor] = _score(told == test_factors[factor])
    return scores


def _classifiers(labels: np.ndarray, seed: int) -> dict:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError("The leakage probes need scikit-learn: pip install 'divid_diffusers[eval]'.") from error

    _, counts = np.unique(labels, return_counts=True)
    folds = StratifiedKFold(min(3, counts.min()), shuffle=True, random_state=seed)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    linear = GridSearchCV(logistic, {"logisticregression__C": PENALTIES}, cv=folds)
    # Early stopping sets clips of every class aside; a tenth of a small set has not enough of them.
    set_aside = max(0.1, (len(counts) - 0.5) / len(labels))
    mlp = MLPClassifier(
        (64,),
        batch_size=min(64, len(labels) // 2),
        learning_rate_init=3e-3,
        max_iter=300,
        early_stopping=True,
        validation_fraction=set_aside,
        n_iter_no_change=20,
        random_state=seed,
    )
    return {"linear": linear, "mlp": make_pipeline(StandardScaler(), mlp)}


def _chance(train_labels: np.ndarray, test_labels: np.ndarray) -> dict:
    values, counts = np.unique(train_labels, return_counts=True)
    return _score(test_labels == values[counts.argmax()])


def _score(right: np.ndarray) -> dict:
    correct, n = int(right.sum()), len(right)
    low, high = wilson_interval(correct, n)
    return {"accuracy": correct / n, "low": low, "high": high, "correct": correct, "n": n}


def _check(train: LabelledCodes, test: LabelledCodes) -> None:
    """Refuse what would give a figure that means nothing."""
    for split, codes in (("training", train), ("test", test)):
        _check_codes(split, codes)
        for name, labels in codes.factors.items():
            if labels.shape != (len(codes.static),) or labels.dtype.kind not in "iu":
                raise ValueError(
                    f"`{name}` must be one integer for each of the {len(codes.static)} {split} clips, but has shape "
                    f"{labels.shape} and type {labels.dtype}."
                )
            if len(np.unique(labels)) < 2:
                raise ValueError(
                    f"`{name}` is {labels[0]} in all {len(labels)} {split} clips, so there is nothing to tell apart: "
                    "take clips "
                    "with at least 2 classes, or leave the factor out."
                )
    shapes = [[np.shape(part)[1:] for part in (codes.static, codes.dynamic, codes.clips)] for codes in (train, test)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"Training and test codes do not belong together: static code, dynamic code and clip are {shapes[0]} and "
            f"{shapes[1]}. "
            "Encode both splits with one encoder, with as many frames per clip; give `clips` for both or for neither."
        )
    kinds = [(sorted(codes.static_factors), sorted(codes.dynamic_factors)) for codes in (train, test)]
    if kinds[0] != kinds[1] or not all(kinds[0]) or set(kinds[0][0]) & set(kinds[0][1]):
        raise ValueError(
            "Training and test clips need the same static and the same dynamic factors, at least one of each and none "
            "that is "
            f"both, but have {kinds[0]} and {kinds[1]}."
        )
    for name, labels in train.factors.items():
        values, counts = np.unique(labels, return_counts=True)
        unseen = ~np.isin(test.factors[name], values)
        if unseen.any():
            raise ValueError(
                f"`{name}` has {len(np.unique(test.factors[name][unseen]))} classes in the test clips that no "
                "training clip shows "
                f"({unseen.sum()} of {len(unseen)} clips): no probe can name them. Split so that every class is in "
                "both."
            )
        if counts.min() < 2:
            raise ValueError(
                f"`{name}` has {(counts == 1).sum()} classes with a single training clip: the probes need at least 2 "
                "of each, "
                "one to learn from and one to validate by. Add clips, or leave those classes out of both splits."
            )


def _check_codes(split: str, codes: LabelledCodes) -> None:
    for name, code, dims in (("static", codes.static, "(B, S)"), ("dynamic", codes.dynamic, "(B, N, D)")):
        array = np.asarray(code)
        if array.ndim != dims.count(",") + 1 or array.size == 0:
            raise ValueError(f"The {name} codes of the {split} clips must be {dims}, but have shape {array.shape}.")
        broken = (~np.isfinite(array)).reshape(len(array), -1).any(axis=1).sum()
        if broken:
            raise ValueError(
                f"The {name} codes of {broken} of {len(array)} {split} clips hold NaN or infinity: look into the "
                "encoder first."
            )
    counts = [len(codes.static), len(codes.dynamic)] + ([] if codes.clips is None else [len(codes.clips)])
    if len(set(counts)) > 1:
        raise ValueError(f"The {split} codes are of different clips: their numbers are {counts}.")
    if codes.clips is not None and (codes.clips.ndim != 5 or codes.clips.shape[1] < 2):
        raise ValueError(
            f"The {split} clips must be (B, N, C, H, W) with at least 2 frames, but have shape "
            f"{tuple(codes.clips.shape)}."
        )
