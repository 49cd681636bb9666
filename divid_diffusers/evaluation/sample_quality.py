"""Keep one code, sample the other: does a judge still see what was kept? The field's protocol on Sprites and MUG."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from .protocol import Disentangler, Judge


@dataclass
class JudgedQuality:
    """
    What a judge's probabilities p(y|x) over clips x say of one factor; p(y) is their mean over the clips.

    Attributes:
        accuracy (`float`): share of clips whose most probable class is the label.
        inception_score (`float`): exp of the mean over x of KL(p(y|x) || p(y)), from 1 to the number of classes.
        conditional_entropy (`float`): H(y|x), mean over x, in nats: low when the judge is sure.
        marginal_entropy (`float`): H(y), in nats: high when all classes occur.
    """

    accuracy: float
    inception_score: float
    conditional_entropy: float
    marginal_entropy: float


def judged_quality(probabilities: torch.Tensor, labels: Sequence[int]) -> JudgedQuality:
    """
    Acc, IS, H(y|x) and H(y) of one factor, over all clips at once: IS of a part of a set is another number.

    IS = exp(H(y) - H(y|x)) (Salimans et al. 2016, "Improved techniques for training GANs").

    Args:
        probabilities (`torch.Tensor` of shape `(B, classes)`): non-negative, each row summing to 1.
        labels (`Sequence[int]` of length B): the classes that should be seen.

    Raises:
        ValueError: rows that are no probabilities, or another number of labels than of rows.
    """
    probabilities, labels = probabilities.double().cpu(), torch.as_tensor(labels).cpu()
    if labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"A judge's {tuple(probabilities.shape)} probabilities do not fit {tuple(labels.shape)} labels."
        )
    if not (probabilities >= 0).all() or not torch.allclose(
        probabilities.sum(dim=1), torch.ones(()).double(), atol=1e-3
    ):
        raise ValueError("A judge must give probabilities, and these do not sum to 1: apply a softmax to its logits.")
    marginal = probabilities.mean(dim=0)
    conditional_entropy = torch.special.entr(probabilities).sum(dim=1).mean()
    marginal_entropy = torch.special.entr(marginal).sum()
    return JudgedQuality(
        accuracy=(probabilities.argmax(dim=1) == labels).double().mean().item(),
        inception_score=(marginal_entropy - conditional_entropy).exp().item(),
        conditional_entropy=conditional_entropy.item(),
        marginal_entropy=marginal_entropy.item(),
    )


@dataclass
class SpritesProtocolScores:
    """
    Every attribute maps the name of a factor to its score; all factors are scored in both runs.

    A kept factor should keep its label, a sampled one should not: where its accuracy stays far above chance, the model
    ignores the sampled code, and the run says nothing. Either run alone can be won so; only a swap scored on both
    factors rules it out.

    Attributes:
        dynamic_kept, static_kept (`dict[str, tuple[JudgedQuality, JudgedQuality]]`): mean and standard deviation over
            draws (infinite for a single draw), the dynamic code kept and the static sampled, and the reverse. The
            field prints the accuracy, IS, H(y|x) and H(y) of the action in `dynamic_kept`, and the accuracy of the
            attributes in `static_kept`.
        reconstructed (`dict[str, JudgedQuality]`): both codes kept, the best to be hoped for.
        real (`dict[str, JudgedQuality]`): the judge on the real clips, its own ceiling.
        num_clips, draws (`int`): n of each draw, and how many.
    """

    dynamic_kept: dict[str, tuple[JudgedQuality, JudgedQuality]]
    static_kept: dict[str, tuple[JudgedQuality, JudgedQuality]]
    reconstructed: dict[str, JudgedQuality]
    real: dict[str, JudgedQuality]
    num_clips: int
    draws: int


@torch.no_grad()
def sprites_protocol(
    model: Disentangler,
    judge: Judge,
    clips: torch.Tensor,
    labels: Mapping[str, Sequence[int]],
    draws: int = 5,
    batch_size: int = 32,
    seed: int = 0,
) -> SpritesProtocolScores:
    """
    Encode held-out clips, replace one code by a draw from the model's prior, decode, and ask a judge trained on real
    clips.

    As in C-DSVAE (Bai et al. 2021, "Contrastively disentangled sequential variational autoencoder"), with the sampled
    factors, the reconstructions and the real clips scored beside the kept factors (our addition).

    Args:
        model: a [`Disentangler`] that can also sample either code: `sample_static(batch, generator)` gives
            `(batch, S)`, `sample_dynamic(batch, num_frames, generator)` gives `(batch, num_frames, D)`.
        judge (`Judge`): its accuracy on the real clips is reported beside everything else.
        clips (`torch.Tensor` of shape `(B, N, C, H, W)`): held-out clips in [0, 1]. All are scored, the last batch
            too.
        labels (`Mapping[str, Sequence[int]]`): for every factor to score, the true classes `(B,)`.
        draws (`int`): repetitions with other draws; a seed gives the same ones again.

    Raises:
        TypeError: the model cannot sample its codes.
        ValueError: the judge does not tell a factor that has labels, or gives no probabilities; drawn codes are not
            shaped as encoded ones.
    """
    _must_sample(model)

    def run(keep: str, draw: int) -> dict[str, JudgedQuality]:
        generator = torch.Generator().manual_seed(seed + draw)
        probabilities = []
        for batch in clips.split(batch_size):
            decoded = batch if keep == "pixels" else _decode(model, batch, keep, generator)
            probabilities.append(_tell(judge, decoded, labels))
        return {
            factor: judged_quality(torch.cat([told[factor] for told in probabilities]), true)
            for factor, true in labels.items()
        }

    return SpritesProtocolScores(
        dynamic_kept=_over_draws([run("dynamic", draw) for draw in range(draws)]),
        static_kept=_over_draws([run("static", draw) for draw in range(draws)]),
        reconstructed=run("both", 0),
        real=run("pixels", 0),
        num_clips=len(clips),
        draws=draws,
    )


def _must_sample(model) -> None:
    missing = [name for name in ("sample_static", "sample_dynamic") if not callable(getattr(model, name, None))]
    if missing:
        raise TypeError(
            f"The Sprites protocol samples one code and keeps the other, but {type(model).__name__} has no "
            f"{' and no '.join(missing)}: it has no prior to draw codes from. Score its swaps of held-out clips "
            "instead."
        )


def _decode(model: Disentangler, clips: torch.Tensor, keep: str, generator: torch.Generator) -> torch.Tensor:
    static, dynamic = model.encode(clips)
    if keep == "dynamic":
        static = _drawn("sample_static", model.sample_static(len(clips), generator), static)
    if keep == "static":
        dynamic = _drawn("sample_dynamic", model.sample_dynamic(len(clips), clips.shape[1], generator), dynamic)
    return model.decode(static, dynamic)


def _drawn(method: str, codes: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
    if codes.shape != encoded.shape:
        raise ValueError(f"{method} gave {tuple(codes.shape)} where the encoder gives {tuple(encoded.shape)}.")
    return codes.to(encoded)


def _tell(judge: Judge, clips: torch.Tensor, labels: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    told = judge(clips)
    if missing := sorted(labels.keys() - told.keys()):
        raise ValueError(
            f"There are labels of {', '.join(missing)}, but the judge tells only {', '.join(sorted(told))}."
        )
    return {factor: told[factor].cpu() for factor in labels}


def _over_draws(runs: list[dict[str, JudgedQuality]]) -> dict[str, tuple[JudgedQuality, JudgedQuality]]:
    def summary(factor: str, of: Callable[[list[float]], float]) -> JudgedQuality:
        columns = zip(*(vars(run[factor]).values() for run in runs))
        return JudgedQuality(*(of(list(column)) for column in columns))

    def deviation(values: list[float]) -> float:
        return statistics.stdev(values) if len(values) > 1 else math.inf

    return {factor: (summary(factor, statistics.fmean), summary(factor, deviation)) for factor in runs[0]}
