"""SPYL: both codes from the whole clip, told apart by contrast with clips that the model draws itself."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .sequential_vae import (
    DiagonalGaussian,
    GaussianHead,
    PerceptualDistance,
    SequentialVAE,
    keep_statistics,
    with_total,
)


DRAWN = 4  # clips drawn per clip of the batch, 512 as published
POOL_SIZE = 512  # of which the farthest half are the negatives: 256
TEMPERATURE = 0.5
OWN_WEIGHTS = {"static_kl": 5.0, "dynamic_kl": 1.0, "mutual_information": 1.0, "static_nce": 1.0, "dynamic_nce": 1.0}


class SPYL(SequentialVAE):
    r"""
    *Sample and Predict Your Latent* (Naiman et al., ICML 2023), a sequential VAE with contrastive terms. With `z_i`
    the embedding of frame `i`, see [`SequentialVAE`],

        h          = biLSTM(z_1 .. z_N)
        q(s | x)   = Gaussian([last forward state, first backward state])           from all frames
        q(d_i | x) = Gaussian(RNN(h)_i)                                             tanh
        L          = 10 sum_i |x_i - x'_i|^2 + 5 KL(s) + KL(d) + MI(s; d) + NCE_s + NCE_d            `form="published"`
        L          = sum_i |x_i - x'_i|_1 + 10 perceptual + 5 KL(s) + KL(d) + MI(s; d) + NCE_s + NCE_d   `form="divid"`

    MI is [`mutual_information`], NCE [`info_nce`]; the latter two come late in training. Their samples are decoded
    from codes and encoded again: for s a positive from this clip's s with drawn dynamics, for d one from this clip's d
    with a drawn s, and for both one pool of clips of the priors, the half of it that is farthest from the clip being
    the negatives: in KL from its posterior, for d from its posterior averaged over time. Dynamics are drawn as the
    means along a rollout of the prior, and gradients reach the prior through the positive. The pool holds 512, `4 B`
    of them new at every step; at batches below the published 128 the others are those of the steps before
    ([`NegativePool`], our choice). It is encoded and decoded without gradients (our choice), the positives with, which
    makes a step about four times as long. Sources: Naiman et al. 2023, arXiv:2305.15924, method, and the authors'
    settings; Gheisari and Genovesio 2025, arXiv:2507.13934, experiments, which lists no term of the method's own,
    without which it would not be this method (our reading).

    ```python
    import torch

    from divid_diffusers import build_baseline

    model = build_baseline("spyl")
    tokens = model.encode(torch.rand(2, 8, 3, 64, 64) * 2 - 1)
    swapped = model.decode(tokens.static, tokens.dynamic.flip(0))  # (2, 8, 3, 64, 64) in [-1, 1]
    new_motion = model.decode(tokens.static, model.sample_dynamic(2, num_frames=8))
    ```
    """

    loss_weights = {
        "published": {"reconstruction": 10.0} | OWN_WEIGHTS,
        "divid": {"reconstruction": 1.0} | OWN_WEIGHTS,
    }

    def add_posteriors(self, embedding_dim: int, static_dim: int, dynamic_dim: int, hidden_dim: int) -> None:
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.static_head = GaussianHead(2 * hidden_dim, static_dim)
        self.dynamic_encoder = nn.RNN(2 * hidden_dim, hidden_dim, batch_first=True)
        self.dynamic_head = GaussianHead(hidden_dim, dynamic_dim)

    def posteriors(
        self, embeddings: torch.Tensor, dynamic_embeddings: torch.Tensor | None = None
    ) -> tuple[DiagonalGaussian, DiagonalGaussian]:
        hidden, _ = self.lstm(embeddings)
        forward, backward = hidden.chunk(2, dim=-1)
        static = self.static_head(torch.cat([forward[:, -1], backward[:, 0]], dim=-1))
        if dynamic_embeddings is not None:
            hidden, _ = self.lstm(dynamic_embeddings)
        return static, self.dynamic_head(self.dynamic_encoder(hidden)[0])

    def draw_noise(
        self, batch_size: int, num_frames: int, generator: torch.Generator | None = None
    ) -> dict[str, torch.Tensor]:
        noise = super().draw_noise(batch_size, num_frames, generator)
        shapes = {name: value.shape[1:] for name, value in noise.items()}
        for name, shape in shapes.items():
            noise[f"positive_{name}"] = torch.randn(batch_size, *shape, generator=generator)
            noise[f"pool_{name}"] = torch.randn(batch_size, DRAWN, *shape, generator=generator)
        return noise

    def loss(
        self,
        clips: torch.Tensor,
        noise: dict[str, torch.Tensor],
        num_train_clips: int,
        contrast: bool = True,
        perceptual: PerceptualDistance | None = None,
        perceptual_weight: float = 10.0,
        dynamic_clips: torch.Tensor | None = None,
        pool: tuple[DiagonalGaussian, DiagonalGaussian] | None = None,
    ) -> dict[str, torch.Tensor]:
        """
        `loss`, and the terms it is made of before their weights. A function of its arguments: nothing is drawn.

        Args:
            clips (`torch.Tensor` of shape `(B, N, C, H, W)`): values in [-1, 1].
            noise: what [`draw_noise`] gives for B and N, on the device of the clips.
            num_train_clips (`int`): clips in the training set, which [`mutual_information`] asks for.
            contrast (`bool`): with NCE_s and NCE_d; as published from epoch 50 of 1,000 on.
            perceptual: such as [`VGGPerceptualDistance`]; without it the term is left out.
            dynamic_clips: the same clips, augmented, for d to be read from.
            pool: what the negatives are taken from, see [`NegativePool`]; default: [`draw_pool`] of this noise.
        """
        static, dynamic = self.posteriors(self.embed(clips), self.embed_view(dynamic_clips))
        static_sample, dynamic_sample = static.sample(noise["static"]), dynamic.sample(noise["dynamic"])
        decoded = self.decode(static_sample, dynamic_sample)
        terms = self.common_terms(clips, decoded, static, dynamic, dynamic_sample, perceptual)
        terms["mutual_information"] = mutual_information(
            static, static_sample, dynamic, dynamic_sample, num_train_clips
        )
        if contrast:
            terms |= self.contrastive_terms(static, dynamic, noise, pool or self.draw_pool(noise))
        weights = self.loss_weights[self.config.form] | {"perceptual": perceptual_weight}
        return with_total(terms, weights)

    @torch.no_grad()
    def draw_pool(self, noise: dict[str, torch.Tensor]) -> tuple[DiagonalGaussian, DiagonalGaussian]:
        """Posteriors of s and, averaged over time, of d, `(4 B, ...)`, of clips drawn from the priors."""
        with keep_statistics(self):
            _, means = self.dynamic_prior.rollout(noise["pool_dynamic"].flatten(0, 1))
            static, dynamic = self.encode_again(noise["pool_static"].flatten(0, 1), means)
        return static, time_average(dynamic)

    def contrastive_terms(
        self,
        static: DiagonalGaussian,
        dynamic: DiagonalGaussian,
        noise: dict[str, torch.Tensor],
        pool: tuple[DiagonalGaussian, DiagonalGaussian],
    ) -> dict[str, torch.Tensor]:
        """NCE_s and NCE_d of a batch's posteriors."""
        with keep_statistics(self):
            _, drawn_dynamic = self.dynamic_prior.rollout(noise["positive_dynamic"])
            static_positive = self.encode_again(static.mean, drawn_dynamic)[0]
            dynamic_positive = self.encode_again(noise["positive_static"], dynamic.mean)[1]
        dynamic, dynamic_positive = time_average(dynamic), time_average(dynamic_positive)
        return {
            "static_nce": info_nce(static.mean, static_positive.mean, farthest(static, pool[0])),
            "dynamic_nce": info_nce(dynamic.mean, dynamic_positive.mean, farthest(dynamic, pool[1])),
        }

    def encode_again(self, static: torch.Tensor, dynamic: torch.Tensor) -> tuple[DiagonalGaussian, DiagonalGaussian]:
        """The posteriors of the clip that tokens `(B, S)` and `(B, N, D)` decode to."""
        return self.posteriors(self.embed(self.decode(static, dynamic)))


class NegativePool(nn.Module):
    """
    The last 512 posteriors that [`SPYL.draw_pool`] gave, so that a small batch meets as many negatives as the
    published one of 128 clips. Those of earlier steps were encoded by the weights of then (our choice). Its state is
    in buffers: a run that is resumed has the same pool.
    """

    def __init__(self, static_dim: int, dynamic_dim: int):
        super().__init__()
        self.register_buffer("count", torch.tensor(0))
        for name, dim in (("static", static_dim), ("dynamic", dynamic_dim)):
            self.register_buffer(name, torch.zeros(POOL_SIZE, 2 * dim))

    @torch.no_grad()
    def renew(
        self, static: DiagonalGaussian, dynamic: DiagonalGaussian, keep: bool
    ) -> tuple[DiagonalGaussian, DiagonalGaussian]:
        """New posteriors `(P, ...)` before those that are there, at most 512 together; kept for later if asked."""
        held = int(self.count)
        parts = []
        for buffer, new in ((self.static, static), (self.dynamic, dynamic)):
            new = torch.cat([new.mean, new.log_variance], dim=1).to(buffer)
            pool = torch.cat([new, buffer[:held]])[:POOL_SIZE]
            if keep:
                buffer[: len(pool)] = pool
                self.count.fill_(len(pool))
            parts.append(DiagonalGaussian(*pool.chunk(2, dim=1)))
        return tuple(parts)


def time_average(gaussian: DiagonalGaussian) -> DiagonalGaussian:
    """Means and log-variances `(B, N, D)` averaged over frames: `(B, D)`."""
    return DiagonalGaussian(*(each.mean(dim=1) for each in gaussian))


def mutual_information(
    static: DiagonalGaussian,
    static_sample: torch.Tensor,
    dynamic: DiagonalGaussian,
    dynamic_sample: torch.Tensor,
    num_train_clips: int,
) -> torch.Tensor:
    r"""
    `MI(s; d) = mean relu(log q(s, d_i) - log q(s) - log q(d_i))` over clips and frames, with `q` the average posterior
    of the training set, estimated from the batch by minibatch weighting: `log q(z) = log sum_b q(z | x_b) - log(B M)`
    for a batch of B out of M = `num_train_clips`. Source: Naiman et al. 2023, arXiv:2305.15924, method; frame by frame
    is our reading.

    Args:
        static (`(B, S)`), dynamic (`(B, N, D)`): posteriors, and a sample of each.
    """
    log_static = pairwise_log_density(static_sample, static)[..., None]
    log_dynamic = pairwise_log_density(dynamic_sample, dynamic)
    log_size = math.log(len(static_sample) * num_train_clips)

    def log_average(log_densities: torch.Tensor) -> torch.Tensor:
        return log_densities.logsumexp(dim=1) - log_size

    joint = log_average(log_static + log_dynamic)
    return F.relu(joint - log_average(log_static) - log_average(log_dynamic)).mean()


def pairwise_log_density(samples: torch.Tensor, gaussian: DiagonalGaussian) -> torch.Tensor:
    """`log q(z_a | x_b)`, `(B, B, ...)`, of samples `(B, ..., D)` under each clip's Gaussian `(B, ..., D)`."""
    squares = (samples[:, None] - gaussian.mean).square() * (-gaussian.log_variance).exp()
    return -(squares + gaussian.log_variance + math.log(2 * math.pi)).sum(dim=-1) / 2


def info_nce(anchor: torch.Tensor, positive: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    """
    `-log(e(a, p) / (e(a, p) + sum_k e(a, n_k)))` with `e = exp(cos / 0.5)`, the mean over anchors and positives
    `(B, D)`, each with its own negatives `(B, K, D)`. Source: Naiman et al. 2023, arXiv:2305.15924, method.
    """
    candidates = torch.cat([positive[:, None], negatives], dim=1)
    scores = torch.cosine_similarity(anchor[:, None], candidates, dim=-1) / TEMPERATURE
    return F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))


@torch.no_grad()
def farthest(anchors: DiagonalGaussian, pool: DiagonalGaussian) -> torch.Tensor:
    """
    The means `(B, K, D)` of the half of a pool `(2 K, D)` that is farthest from each of the anchors `(B, D)`.
    """
    return pool.mean[pairwise_kl(anchors, pool).topk(len(pool.mean) // 2, dim=1).indices]


def pairwise_kl(anchors: DiagonalGaussian, pool: DiagonalGaussian) -> torch.Tensor:
    """
    `KL(anchor || pool member)`, `(B, P)`, of `(B, D)` and `(P, D)`, as products of matrices: `(B, P, D)` would be
    large.
    """
    precision = (-pool.log_variance).exp()
    squares = (anchors.mean.square() + anchors.log_variance.exp()) @ precision.T
    mixed = anchors.mean @ (pool.mean * precision).T
    of_pool = (pool.mean.square() * precision + pool.log_variance).sum(dim=1)
    of_anchors = (anchors.log_variance + 1).sum(dim=1, keepdim=True)
    return (squares - 2 * mixed + of_pool - of_anchors) / 2
