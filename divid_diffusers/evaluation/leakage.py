"""
Leakage: what a fresh classifier finds in each code of a frozen encoder, where it should be and where it should not.

A leak counts as much as the best of many classifiers finds, for a weak one hides it: a linear probe of d's mean over
time finds the person of DiViD's UTD-MHAD codes in 73 % of clips, an RBF-SVM of all d_i in 92 %.
"""

import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch.nn import functional as F

from ..training.losses import orthogonality_loss
from .statistics import wilson_interval


FLOOR_SIDE = 16  # pixels per side of the frames that the floors are read from
WAVES = 3  # cosines over time by which a sequence is summed up
# The probes with their settings: inverse penalty; width of the kernel over the number of features, and inverse
# penalty; penalty on the weights.
PROBES = {
    "linear": [0.03, 1.0, 30.0],
    "RBF-SVM": [(width, penalty) for width in (0.25, 1.0, 4.0, 16.0) for penalty in (3.0, 30.0)],
    "MLP": [0.01, 1.0],
}
CELLS = {"S->S": ("s", "static"), "S->D": ("s", "dynamic"), "D->S": ("d", "static"), "D->D": ("d", "dynamic")}


@dataclass
class LabelledCodes:
    """
    Codes of one split's clips, and what the clips show; arrays or tensors on the CPU.

    Attributes:
        static (`(B, S)`), dynamic (`(B, N, D)`): the codes.
        static_factors, dynamic_factors (`dict[str, (B,) int]`): labels that s should hold, such as `identity`, and
            labels that d should hold, such as `action`.
        recordings (`(B,) int`, *optional*): which codes are of one recording, such as other frames of it; probes are
            validated on recordings that they were not trained on. Default: every code is of its own.
        clips (`(B, N, C, H, W)`, *optional*): the clips themselves, for the floors.
    """

    static: np.ndarray
    dynamic: np.ndarray
    static_factors: dict[str, np.ndarray]
    dynamic_factors: dict[str, np.ndarray]
    recordings: np.ndarray | None = None
    clips: torch.Tensor | None = None

    def __post_init__(self):
        self.recordings = np.arange(len(self.static)) if self.recordings is None else np.asarray(self.recordings)

    @property
    def factors(self) -> dict[str, np.ndarray]:
        return {name: np.asarray(labels) for name, labels in (self.static_factors | self.dynamic_factors).items()}

    def features(self) -> dict[str, dict[str, np.ndarray]]:
        """
        What the probes see of s and of d, `(B, features)` each. Of d that is its mean over time, all d_i in their
        order, and statistics of the sequence: mean, spread, mean step, and the coefficients of its slowest cosines.
        """
        static, dynamic = np.asarray(self.static, np.float32), np.asarray(self.dynamic, np.float32)
        mean, flat = dynamic.mean(axis=1), dynamic.reshape(len(dynamic), -1)
        times = (np.arange(dynamic.shape[1]) + 0.5) / dynamic.shape[1]
        waves = np.cos(np.pi * np.arange(1, WAVES + 1)[:, None] * times) / len(times)
        slow = np.einsum("kn,bnd->bkd", waves, dynamic).reshape(len(dynamic), -1)
        steps = np.abs(np.diff(dynamic, axis=1)).sum(axis=1) / len(times)
        sequence = np.concatenate([mean, dynamic.std(axis=1), steps, slow], axis=1)
        return {"s": {"as it is": static}, "d": {"mean": mean, "flat": flat, "sequence": sequence}}

    def pixels(self) -> "LabelledCodes":
        """
        A "code" that nobody trained: the first frame, and residuals `x_i - x_1`, averaged down to 16 x 16.
        """
        clips = torch.as_tensor(self.clips).float()
        small = F.adaptive_avg_pool2d(clips.flatten(0, 1), FLOOR_SIDE).unflatten(0, clips.shape[:2]).flatten(2).numpy()
        return LabelledCodes(
            small[:, 0], small[:, 1:] - small[:, :1], self.static_factors, self.dynamic_factors, self.recordings
        )


def measure_leakage(train: LabelledCodes, test: LabelledCodes, seed: int = 0) -> dict:
    r"""
    What can be told of each factor from each code. S->S and D->D are what a code is for; S->D and D->S are leaks:

        leakage = ( acc_S->D + acc_D->S ) / 2

    Read it beside S->S and D->D, since codes that hold nothing leak nothing; and above chance, since chance is part
    of it.

    For every code and factor all of `PROBES`, on standardised features of the code ([`LabelledCodes.features`]), are
    trained on three quarters of the training recordings; the one that is right most often on the last quarter is
    trained anew on all of them and scored on `test`, which chooses nothing. `linear` is logistic regression; `MLP` has
    one hidden layer of 256. A cell such as D->S is the mean over its factors, with the Wilson interval of as many
    clips: factors of one clip are not independent. The floors are the same probes on pixels: nothing factored.

    Source: the paper's "leakage", in words only. Probes, their settings and the floors are our choice.

    Args:
        train, test ([`LabelledCodes`]): codes of one frozen encoder; of `train` better several of every recording,
            read from other frames of it. With `clips` in both, floors are measured too.
        seed (`int`): of the MLPs and of the split.

    Returns:
        Nested `dict`, ready for JSON: `n_train` codes of `n_recordings`, `n_test`, `seed`; `factors` (name ->
        `"static"` or `"dynamic"`); `chance` (factor -> score of always answering the commonest training label);
        `cells` ("S->S" and so on -> `accuracy`, its 95 % interval `low` to `high`, `chance`); `probes` (code -> factor
        -> score, and what was chosen: `probe`, `features`, `setting`, its share `validated`); `floors`, `cells` and
        `probes` of pixels, or `None`; `leakage` with `accuracy`, `chance` and `above_chance`; `orthogonality`,
        equation 4 on the test codes, or `None` where S != D. A score is `accuracy`, `low`, `high`, `correct`, `n`.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: codes with NaN, labels that do not fit them, a factor with one value only, classes of the test
            clips that no training clip shows, or training classes with a single clip, too few to be learnt and
            validated by.
    """
    if find_spec("sklearn") is None:
        raise ImportError("The leakage probes need scikit-learn: pip install 'divid_diffusers[eval]'.")
    _check(train, test)
    kinds = dict.fromkeys(train.static_factors, "static") | dict.fromkeys(train.dynamic_factors, "dynamic")
    chance = {name: _chance(train.factors[name], test.factors[name]) for name in kinds}
    found = _cells(train, test, kinds, chance, seed)
    has_clips = train.clips is not None
    static, dynamic = (torch.tensor(np.asarray(code, np.float32)) for code in (test.static, test.dynamic))
    leaks = [found["cells"][cell] for cell in ("S->D", "D->S")]
    accuracy, by_chance = (float(np.mean([each[name] for each in leaks])) for name in ("accuracy", "chance"))
    return {
        "n_train": len(train.static),
        "n_recordings": len(np.unique(train.recordings)),
        "n_test": len(static),
        "seed": seed,
        "factors": kinds,
        "chance": chance,
        **found,
        "floors": _cells(train.pixels(), test.pixels(), kinds, chance, seed) if has_clips else None,
        "leakage": {"accuracy": accuracy, "chance": by_chance, "above_chance": accuracy - by_chance},
        "orthogonality": orthogonality_loss(static, dynamic).item() if static.shape[-1] == dynamic.shape[-1] else None,
    }


def leakage_table(result: dict) -> str:
    """
    What [`measure_leakage`] returned, or the same read back from JSON, factor by factor, as a Markdown table.
    """
    lines = [
        f"Probes trained on {result['n_train']} codes of {result['n_recordings']} recordings, scored on "
        f"{result['n_test']} clips; accuracy in %, 95 % interval.",
        "",
        "| from | to | | accuracy | chance | the best on validation |",
        "|---|---|---|---|---|---|",
    ]
    for source, found in (("", result), ("pixels of ", result["floors"])):
        for cell, (code, kind) in CELLS.items() if found else ():
            for factor in (name for name in result["factors"] if result["factors"][name] == kind):
                score = found["probes"][code][factor]
                told = f"{100 * score['accuracy']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
                chance = f"{100 * result['chance'][factor]['accuracy']:.1f}"
                chosen = f"{score['probe']}, {score['setting']}, of {code} {score['features']}"
                lines.append(f"| {source}{code} | {factor} | {cell} | {told} | {chance} | {chosen} |")
    return "\n".join(lines) + "\n"


def _cells(train: LabelledCodes, test: LabelledCodes, kinds: dict[str, str], chance: dict, seed: int) -> dict:
    """`cells` and `probes` of [`measure_leakage`]."""
    seen, asked = train.features(), test.features()
    probes = {code: {} for code in seen}
    for code, features in seen.items():
        for factor in kinds:
            chosen = _choose(features, train.factors[factor], train.recordings, seed)
            given = features[chosen["features"]], asked[code][chosen["features"]]
            told = _tell(chosen["probe"], chosen["setting"], *given, train.factors[factor], seed)
            probes[code][factor] = _score(told == test.factors[factor]) | chosen
    cells = {}
    for cell, (code, kind) in CELLS.items():
        names = [name for name in kinds if kinds[name] == kind]
        accuracy = float(np.mean([probes[code][name]["accuracy"] for name in names]))
        low, high = wilson_interval(round(accuracy * len(test.static)), len(test.static))
        by_chance = float(np.mean([chance[name]["accuracy"] for name in names]))
        cells[cell] = {"accuracy": accuracy, "low": low, "high": high, "chance": by_chance}
    return {"cells": cells, "probes": probes}


def _choose(features: dict[str, np.ndarray], labels: np.ndarray, recordings: np.ndarray, seed: int) -> dict:
    """The probe, features and setting that tell most of recordings that they were not trained on."""
    from sklearn.model_selection import StratifiedGroupKFold

    _, counts = np.unique(labels, return_counts=True)
    count = min(4, counts.max(), len(np.unique(recordings)))
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # of classes with fewer recordings than folds
        warnings.simplefilter("ignore", UserWarning)
        learnt, kept = next(folds.split(labels, labels, recordings))
    best = {"validated": -1.0}
    for probe, settings in PROBES.items():
        for name, each in features.items():
            for setting in settings:
                told = _tell(probe, setting, each[learnt], each[kept], labels[learnt], seed)
                share = float((told == labels[kept]).mean())
                if share > best["validated"]:
                    best = {"probe": probe, "features": name, "setting": setting, "validated": share}
    return best


def _tell(probe: str, setting, seen: np.ndarray, asked: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """What a probe that was trained on features `(B, F)` with labels `(B,)` says of others `(Q, F)`: `(Q,)`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    scaler = StandardScaler().fit(seen)
    seen, asked = scaler.transform(seen), scaler.transform(asked)
    if probe == "RBF-SVM":  # the kernel as one product of matrices, which SVC itself would take long for
        width, penalty = setting
        gamma = width / seen.shape[1]
        classifier = SVC(C=penalty, kernel="precomputed").fit(rbf_kernel(seen, seen, gamma), labels)
        return classifier.predict(rbf_kernel(asked, seen, gamma))
    if probe == "linear":
        classifier = LogisticRegression(C=setting, max_iter=300, tol=1e-3)
    else:
        batch = min(128, len(labels))
        classifier = MLPClassifier((256,), alpha=setting, max_iter=40, batch_size=batch, random_state=seed)
    with warnings.catch_warnings():  # they stop early on purpose
        warnings.simplefilter("ignore", ConvergenceWarning)
        return classifier.fit(seen, labels).predict(asked)


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
        pairs = np.unique(np.stack([labels, train.recordings]), axis=1)
        values, counts = np.unique(pairs[0], return_counts=True)
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
                f"`{name}` has {(counts == 1).sum()} classes with a single training recording: the probes need at "
                "least 2 of each, one to learn from and one to validate by. Add clips, or leave those classes out of "
                "both splits."
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
    counts = [len(codes.static), len(codes.dynamic), len(codes.recordings)] + (
        [] if codes.clips is None else [len(codes.clips)]
    )
    if len(set(counts)) > 1:
        raise ValueError(f"The {split} codes are of different clips: their numbers are {counts}.")
    if codes.clips is not None and (codes.clips.ndim != 5 or codes.clips.shape[1] < 2):
        raise ValueError(
            f"The {split} clips must be (B, N, C, H, W) with at least 2 frames, but have shape "
            f"{tuple(codes.clips.shape)}."
        )
