"""DBSE: the static code from one frame, the dynamic codes from what is left when that frame is subtracted."""

import torch
from torch import nn

from .sequential_vae import DiagonalGaussian, GaussianHead, PerceptualDistance, SequentialVAE, with_total


STATIC_HIDDEN_DIM = 64  # as published
INITIAL_SPREAD = 0.01


class DBSE(SequentialVAE):
    r"""
    *Sequential Disentanglement by Extracting Static Information From A Single Sequence Element* (Berman et al., ICML
    2024), a sequential VAE. With `z_i` the embedding of frame `i`, see [`SequentialVAE`],

        q(s | x)   = Gaussian(tanh(W z_1))                                          from the first frame alone
        r_i        = z_i - z_1,   r_1 ~ N(0, I)
        q(d_i | x) = Gaussian(biLSTM(r_1 .. r_N)_i)                                 two layers
        L          = 5 sum_i |x_i - x'_i|^2 + |x_1 - x'_1|^2 + KL(s) + KL(d)        `form="published"`
        L          = sum_i |x_i - x'_i|_1 + 10 perceptual + 5 KL(s) + KL(d)         `form="divid"`

    `x'_i` is decoded from a sample of `[d_i, s]`. Every term is a sum over pixels, frames and dimensions and a mean
    over clips. When tokens are read, not trained, r_1 is 0 instead of noise, so that they are a function of the clip
    (our choice). The published form starts from weights of N(0, .01), which we take for the standard deviation and for
    convolutions and linear layers, with biases of 0 (our reading); its prior is 64 wide. Sources: Berman et al. 2024,
    arXiv:2406.18131, method, and the authors' settings; the loss of DiViD's form Gheisari and Genovesio 2025,
    arXiv:2507.13934, experiments, which has one reconstruction term, so the extra one for the first frame is left out
    there (our reading).

    ```python
    import torch

    from divid_diffusers import build_baseline

    model = build_baseline("dbse")
    clips = torch.rand(2, 8, 3, 64, 64) * 2 - 1
    tokens = model.encode(clips)
    swapped = model.decode(tokens.static, tokens.dynamic.flip(0))  # (2, 8, 3, 64, 64) in [-1, 1]
    loss = model.loss(clips, model.draw_noise(2, 8))["loss"]
    ```
    """

    loss_weights = {
        "published": {"reconstruction": 5.0, "first_frame": 1.0, "static_kl": 1.0, "dynamic_kl": 1.0},
        "divid": {"reconstruction": 1.0, "static_kl": 5.0, "dynamic_kl": 1.0},
    }

    def add_posteriors(self, embedding_dim: int, static_dim: int, dynamic_dim: int, hidden_dim: int) -> None:
        self.static_encoder = nn.Sequential(
            nn.Linear(embedding_dim, STATIC_HIDDEN_DIM), nn.Tanh(), GaussianHead(STATIC_HIDDEN_DIM, static_dim)
        )
        self.dynamic_encoder = nn.LSTM(embedding_dim, hidden_dim, num_layers=2, batch_first=True, bidirectional=True)
        self.dynamic_head = GaussianHead(2 * hidden_dim, dynamic_dim)

    def initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, std=INITIAL_SPREAD)
            nn.init.zeros_(module.bias)

    def posteriors(
        self,
        embeddings: torch.Tensor,
        dynamic_embeddings: torch.Tensor | None = None,
        first_residual: torch.Tensor | None = None,
    ) -> tuple[DiagonalGaussian, DiagonalGaussian]:
        """As in the base; `first_residual` `(B, E)` stands for r_1, which is 0 without it."""
        residuals = embeddings if dynamic_embeddings is None else dynamic_embeddings
        residuals = residuals - residuals[:, :1]
        if first_residual is not None:
            residuals = torch.cat([first_residual[:, None], residuals[:, 1:]], dim=1)
        hidden, _ = self.dynamic_encoder(residuals)
        return self.static_encoder(embeddings[:, 0]), self.dynamic_head(hidden)

    def draw_noise(
        self, batch_size: int, num_frames: int, generator: torch.Generator | None = None
    ) -> dict[str, torch.Tensor]:
        noise = super().draw_noise(batch_size, num_frames, generator)
        return noise | {"first_residual": torch.randn(batch_size, self.embedding_dim, generator=generator)}

    def loss(
        self,
        clips: torch.Tensor,
        noise: dict[str, torch.Tensor],
        perceptual: PerceptualDistance | None = None,
        perceptual_weight: float = 10.0,
        dynamic_clips: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """
        `loss`, and the terms it is made of before their weights. A function of its arguments: nothing is drawn.

        Args:
            clips (`torch.Tensor` of shape `(B, N, C, H, W)`): values in [-1, 1].
            noise: what [`draw_noise`] gives for B and N, on the device of the clips.
            perceptual: such as [`VGGPerceptualDistance`]; without it the term is left out.
            dynamic_clips: the same clips, augmented, for d to be read from.
        """
        embeddings, view = self.embed(clips), self.embed_view(dynamic_clips)
        static, dynamic = self.posteriors(embeddings, view, noise["first_residual"])
        static_sample, dynamic_sample = static.sample(noise["static"]), dynamic.sample(noise["dynamic"])
        decoded = self.decode(static_sample, dynamic_sample)
        terms = self.common_terms(clips, decoded, static, dynamic, dynamic_sample, perceptual)
        weights = self.loss_weights[self.config.form] | {"perceptual": perceptual_weight}
        if "first_frame" in weights:
            terms["first_frame"] = self.frame_errors(decoded[:, :1], clips[:, :1]).mean()
        return with_total(terms, weights)
