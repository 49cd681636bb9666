"""What DBSE and SPYL share: frames coded one by one, Gaussian posteriors, a learned prior of motion."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from .frame_coders import FORMS, DCGANFrameDecoder, DCGANFrameEncoder, DiViDFrameDecoder
from .image_encoder import ImageEncoder
from .modeling_utils import StrictLoadingMixin
from .offloading import input_device, reads_weights
from .sequence_encoder import DiViDTokens


PerceptualDistance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of frames (F, C, H, W) in [-1, 1]: (F,)


class DiagonalGaussian(NamedTuple):
    """`N(mean, exp(log_variance))` with independent dimensions; both tensors `(..., D)`."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    def sample(self, noise: torch.Tensor) -> torch.Tensor:
        """`mean + sigma * noise`: differentiable in both parameters (the reparametrisation trick)."""
        return self.mean + (self.log_variance / 2).exp() * noise

    def kl(self, other: "DiagonalGaussian") -> torch.Tensor:
        """`KL(self || other)`, summed over the last axis."""
        squares = (self.mean - other.mean).square() + self.log_variance.exp()
        log_ratio = other.log_variance - self.log_variance
        return (log_ratio + squares * (-other.log_variance).exp() - 1).sum(dim=-1) / 2


STANDARD = DiagonalGaussian(torch.tensor(0.0), torch.tensor(0.0))  # N(0, I) of any width


class GaussianHead(nn.Linear):
    """A linear layer that gives mean and log-variance of a [`DiagonalGaussian`] of `dim` dimensions."""

    def __init__(self, in_features: int, dim: int):
        super().__init__(in_features, 2 * dim)

    def forward(self, hidden: torch.Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(*super().forward(hidden).chunk(2, dim=-1))


class DynamicPrior(nn.Module):
    r"""
    `p(d_1 .. d_N) = prod_i p(d_i | d_<i)`: two stacked LSTM cells, which start at zero, read `d_{i-1}` (and zero for
    `d_0`) and give mean and log-variance of `d_i`. Source: Naiman et al. 2023, arXiv:2305.15924, after Li and Mandt
    2018, arXiv:1803.02991.
    """

    def __init__(self, dynamic_dim: int, hidden_dim: int):
        super().__init__()
        self.lstm = nn.LSTM(dynamic_dim, hidden_dim, num_layers=2, batch_first=True)
        self.head = GaussianHead(hidden_dim, dynamic_dim)

    def forward(self, dynamic: torch.Tensor) -> DiagonalGaussian:
        """`p(d_i | d_<i)` for all i of given `d` `(B, N, D)`: teacher forcing."""
        previous = F.pad(dynamic[:, :-1], (0, 0, 1, 0))
        return self.head(self.lstm(previous)[0])

    def rollout(self, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        A sample `(B, N, D)` of the prior, each frame given those drawn before it, and the means along the way, which
        are what each frame was drawn around; `noise` `(B, N, D)` is N(0, I).
        """
        previous, state, frames, means = torch.zeros_like(noise[:, 0]), None, [], []
        for frame_noise in noise.unbind(dim=1):
            hidden, state = self.lstm(previous[:, None], state)
            gaussian = self.head(hidden[:, 0])
            previous = gaussian.sample(frame_noise.to(gaussian.mean))
            frames.append(previous)
            means.append(gaussian.mean)
        return torch.stack(frames, dim=1), torch.stack(means, dim=1)


class SequentialVAE(StrictLoadingMixin, ModelMixin, ConfigMixin, ABC):
    r"""
    The base of [`DBSE`] and [`SPYL`], which differ in their posteriors and in their losses:

        z_i = frame_encoder(x_i)
        q(s | x) = N(., .),   q(d_i | x) = N(., .)                     the method's, from z_1 .. z_N
        x_i = frame_decoder([d_i, s])                                  every frame on its own
        p(s) = N(0, I),   p(d_i | d_<i): an LSTM                       [`DynamicPrior`]

    In the two `form`s everything but the frame encoder and decoder and the loss of a pixel is the same. Sources:
    Naiman et al. 2023, arXiv:2305.15924 (SPYL); Berman et al. 2024, arXiv:2406.18131 (DBSE); for the `"divid"` form
    Gheisari and Genovesio 2025, arXiv:2507.13934, experiments.

    Args:
        dynamic_dim (`int`): D. As published 32 (SPYL) or 256 (DBSE).
        static_dim (`int`): S.
        hidden_dim (`int`): width of the recurrent layers, per direction. DBSE has it equal to `dynamic_dim`.
        prior_hidden_dim (`int`, *optional*): of the LSTM of the prior, 64 in DBSE as published. Default: `hidden_dim`.
        form (`str`): the frame encoder and decoder. `"published"`: of DCGAN, the methods' own. `"divid"`: DiViD's
            image encoder and its mirror image, as the DiViD paper compares the methods.
        sample_size (`int`), in_channels (`int`): height and width of a frame in pixels; 3 for RGB, 1 for grey or
            depth.
        block_out_channels (`tuple[int]`): width of each resolution level, in the published form (64, 128, 256, 512).
        latent_channels (`int`): channels of a frame's embedding. In the published form it is one vector, 128 wide
            (SPYL) or 256 (DBSE); in DiViD's a map of `sample_size / (patch_size * 2^(levels - 1))` pixels a side,
            flattened.
        patch_size, layers_per_block, norm_num_groups, mid_block_add_attention, pixel_shortcut: of DiViD's image
            encoder, see [`DiViDSequenceEncoder`]; they say nothing in the published form.

    Raises:
        ValueError: an unknown `form`, or a `sample_size` that the levels do not divide.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ResnetBlock2D", "Attention"]

    @register_to_config
    def __init__(
        self,
        dynamic_dim: int,
        static_dim: int = 256,
        hidden_dim: int = 256,
        form: str = "divid",
        sample_size: int = 64,
        in_channels: int = 3,
        block_out_channels: tuple[int, ...] = (128, 256, 512),
        latent_channels: int = 3,
        patch_size: int = 1,
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        mid_block_add_attention: bool = True,
        pixel_shortcut: bool = False,
        prior_hidden_dim: int | None = None,
    ):
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"`form` is {form!r}; choose one of {', '.join(FORMS)}.")
        block_out_channels, token_dim = tuple(block_out_channels), dynamic_dim + static_dim
        if form == "published":
            if sample_size != 4 * 2 ** len(block_out_channels):
                raise ValueError(
                    f"The published form takes frames of 4 * 2^levels = {4 * 2 ** len(block_out_channels)} pixels a "
                    "side, but "
                    f"`sample_size` is {sample_size}: change it or the number of `block_out_channels`."
                )
            embedding_dim = latent_channels
            self.frame_encoder = DCGANFrameEncoder(in_channels, block_out_channels, embedding_dim)
            self.frame_decoder = DCGANFrameDecoder(token_dim, block_out_channels, in_channels)
        else:
            reduction = patch_size * 2 ** (len(block_out_channels) - 1)
            if sample_size % reduction:
                raise ValueError(
                    f"`sample_size` ({sample_size}) must be a multiple of patch_size * 2^(levels - 1) = {reduction}: "
                    "change "
                    "it, `patch_size` or the number of `block_out_channels`."
                )
            side = sample_size // reduction
            embedding_dim = latent_channels * side**2
            widths = {
                "block_out_channels": block_out_channels,
                "layers_per_block": layers_per_block,
                "norm_num_groups": norm_num_groups,
            }
            self.frame_encoder = ImageEncoder(
                in_channels, patch_size, latent_channels, pixel_shortcut, mid_block_add_attention, **widths
            )
            self.frame_decoder = DiViDFrameDecoder(token_dim, side, latent_channels, in_channels, patch_size, **widths)
        self.embedding_dim = embedding_dim
        self.dynamic_prior = DynamicPrior(dynamic_dim, prior_hidden_dim or hidden_dim)
        self.add_posteriors(embedding_dim, static_dim, dynamic_dim, hidden_dim)
        if form == "published":
            self.apply(self.initialise)

    @abstractmethod
    def add_posteriors(self, embedding_dim: int, static_dim: int, dynamic_dim: int, hidden_dim: int) -> None:
        """Make the layers that [`posteriors`] needs."""

    def initialise(self, module: nn.Module) -> None:
        """Draws the weights of a layer of the published form, where the method says how; else PyTorch's stay."""

    @abstractmethod
    def posteriors(
        self, embeddings: torch.Tensor, dynamic_embeddings: torch.Tensor | None = None
    ) -> tuple[DiagonalGaussian, DiagonalGaussian]:
        """
        `q(s | x)` over `(B, S)` and `q(d_i | x)` over `(B, N, D)` of embeddings `(B, N, E)`; nothing in it is random.
        d is read from `dynamic_embeddings`, if there are any: of the same clips, augmented.
        """

    @abstractmethod
    def loss(self, clips: torch.Tensor, noise: dict[str, torch.Tensor], **options) -> dict[str, torch.Tensor]:
        """`loss`, and the terms it is made of before their weights; nothing is drawn but what [`draw_noise`] gave."""

    @reads_weights
    def embed(self, clips: torch.Tensor) -> torch.Tensor:
        """Embeddings `z` `(B, N, E)` of clips `(B, N, C, H, W)` in [-1, 1]; every frame on its own."""
        size, channels = self.config.sample_size, self.config.in_channels
        if clips.ndim != 5 or clips.shape[1] == 0 or clips.shape[2:] != (channels, size, size):
            raise ValueError(
                f"{type(self).__name__} takes clips of shape (batch, frames, {channels}, {size}, {size}) with at "
                "least one frame, "
                f"but got {tuple(clips.shape)}: resize the clip, or load a checkpoint made for it."
            )
        embeddings = self.frame_encoder(rearrange(clips, "b n c h w -> (b n) c h w"))
        return rearrange(embeddings, "(b n) e -> b n e", b=len(clips))

    def embed_view(self, clips: torch.Tensor | None) -> torch.Tensor | None:
        """
        [`embed`] of augmented clips for d; None of none. They do not enter the statistics of BatchNorm: they are no
        data.
        """
        if clips is None:
            return None
        with keep_statistics(self):
            return self.embed(clips)

    @reads_weights
    def encode(self, clips: torch.Tensor) -> DiViDTokens:
        """
        The means of both posteriors.

        Args:
            clips (`torch.Tensor` of shape `(B, N, C, H, W)`): values in [-1, 1], any N >= 1.

        Raises:
            ValueError: clips of another shape or channel count than the config's.
        """
        static, dynamic = self.posteriors(self.embed(clips))
        return DiViDTokens(static=static.mean, dynamic=dynamic.mean)

    @reads_weights
    def decode(self, static: torch.Tensor, dynamic: torch.Tensor) -> torch.Tensor:
        """
        Clips `(B, N, C, H, W)` in [-1, 1] of tokens `(B, S)` and `(B, N, D)`; every frame from its own `[d_i, s]`.
        """
        static = static[:, None].expand(-1, dynamic.shape[1], -1)
        tokens = rearrange(torch.cat([dynamic, static], dim=-1), "b n d -> (b n) d")
        return rearrange(self.frame_decoder(tokens), "(b n) c h w -> b n c h w", b=len(dynamic))

    @reads_weights
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """The reconstruction of clips `(B, N, C, H, W)` in [-1, 1]."""
        tokens = self.encode(clips)
        return self.decode(tokens.static, tokens.dynamic)

    def sample_static(self, batch_size: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Static tokens `(B, S)` of the prior, N(0, I)."""
        shape = (batch_size, self.config.static_dim)
        return randn_tensor(shape, generator=generator, device=input_device(self), dtype=self.dtype)

    @reads_weights
    def sample_dynamic(
        self, batch_size: int, num_frames: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Dynamic tokens `(B, N, D)` of the prior, frame after frame."""
        shape = (batch_size, num_frames, self.config.dynamic_dim)
        noise = randn_tensor(shape, generator=generator, device=input_device(self), dtype=self.dtype)
        return self.dynamic_prior.rollout(noise)[0]

    def draw_noise(
        self, batch_size: int, num_frames: int, generator: torch.Generator | None = None
    ) -> dict[str, torch.Tensor]:
        """Everything random in [`loss`], on the CPU; each tensor has B first, so that processes can share a batch."""

        def normal(*shape):
            return torch.randn(batch_size, *shape, generator=generator)

        return {"static": normal(self.config.static_dim), "dynamic": normal(num_frames, self.config.dynamic_dim)}

    def frame_errors(self, decoded: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
        """
        The loss of each frame's pixels, `(B, N)`, summed: `|x - x'|` with values in [-1, 1] in DiViD's form,
        `(x - x')^2` with values in [0, 1] in the published one.
        """
        difference = decoded.float() - clips.float()
        error = difference.abs() if self.config.form == "divid" else (difference / 2).square()
        return error.sum(dim=(2, 3, 4))

    def common_terms(
        self,
        clips: torch.Tensor,
        decoded: torch.Tensor,
        static: DiagonalGaussian,
        dynamic: DiagonalGaussian,
        dynamic_sample: torch.Tensor,
        perceptual: PerceptualDistance | None,
    ) -> dict[str, torch.Tensor]:
        """
        The terms of both methods, sums over pixels, frames and dimensions, means over clips: `reconstruction`, see
        [`frame_errors`]; `perceptual`, if asked for, the distance of each frame times its number of pixels and
        channels, so that a weight of 10 means ten times the loss of a pixel (latent diffusion's convention, our
        choice); `static_kl`, `KL(q(s) || N(0, I))`; `dynamic_kl`, `sum_i KL(q(d_i) || p(d_i | d_<i))` with the sample
        in the condition.
        """
        terms = {"reconstruction": self.frame_errors(decoded, clips).sum(dim=1).mean()}
        if perceptual is not None:
            distances = perceptual(decoded.flatten(0, 1), clips.flatten(0, 1))
            terms["perceptual"] = distances.sum() / len(clips) * clips[0, 0].numel()
        terms["static_kl"] = static.kl(STANDARD).mean()
        terms["dynamic_kl"] = dynamic.kl(self.dynamic_prior(dynamic_sample)).sum(dim=1).mean()
        return terms


@contextmanager
def keep_statistics(model: nn.Module) -> Iterator[None]:
    """
    Within it BatchNorm normalises by the batch as ever, but its running averages forget the batch: what a model drew,
    or what was augmented, is no data.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum


def with_total(terms: dict[str, torch.Tensor], weights: dict[str, float]) -> dict[str, torch.Tensor]:
    """The terms, and before them `loss`, their sum under `weights`."""
    return {"loss": sum(weights[name] * term for name, term in terms.items())} | terms
