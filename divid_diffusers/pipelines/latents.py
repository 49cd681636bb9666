"""Latents of an autoencoder in place of pixels, as in diffusers' latent pipelines, frame by frame."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL, AutoencoderTiny, VQModel


Autoencoder = AutoencoderKL | AutoencoderTiny | AsymmetricAutoencoderKL | VQModel
AUTOENCODERS = (AutoencoderKL, AutoencoderTiny, AsymmetricAutoencoderKL, VQModel)
FRAMES_AT_ONCE = 8  # an autoencoder takes far more memory per frame than the UNet on its latents
STD = 0.5  # about that of pixels in [-1, 1], for which noise schedule and losses were chosen


def latent_channels(vae: Autoencoder) -> int:
    """Of [`VQModel`] those of its codebook."""
    return vae.config.get("vq_embed_dim") or vae.config.latent_channels


def scale_factor(vae: Autoencoder) -> int:
    """Pixels on the side of a latent: every level of the encoder but one halves."""
    names = ("down_block_out_channels", "encoder_block_out_channels", "block_out_channels")
    return 2 ** (len(next(vae.config[name] for name in names if name in vae.config)) - 1)


def check_vae(vae: Any, networks: Any, known_factor: int | None) -> None:
    """`networks` is the config of encoder or UNet; `known_factor` that of the autoencoder they were trained with."""
    if not all(hasattr(vae, name) for name in ("encode", "decode", "config")) or "latent_channels" not in vae.config:
        raise ValueError(
            f"A {type(vae).__name__} is no autoencoder of a DiViDPipeline: give an AutoencoderKL, AutoencoderTiny, "
            "AsymmetricAutoencoderKL or VQModel."
        )
    if latent_channels(vae) != networks.in_channels:
        raise ValueError(
            f"The autoencoder does not fit: its latents have {latent_channels(vae)} channels, and encoder and UNet "
            f"take {networks.in_channels}. Give the `vae` that they were trained with, or none if they work on pixels."
        )
    if known_factor not in (None, scale_factor(vae)):
        raise ValueError(
            f"The autoencoder does not fit: its latents are {scale_factor(vae)} times smaller than a frame, and "
            f"encoder and UNet were trained on latents {known_factor} times smaller. Give the `vae` that they were "
            "trained with."
        )


def to_latents(
    vae: Autoencoder,
    frames: torch.Tensor,
    latents_mean: Sequence[float] | None = None,
    latents_std: Sequence[float] | None = None,
) -> torch.Tensor:
    """
    Latents `(F, c, h, w)`, float32, of frames `(F, C, H, W)` in [-1, 1]: the mode of the posterior where there is one,
    so that a clip always has the same tokens; scaled by the autoencoder's own factors and then, if they are given, to
    mean 0 and standard deviation 0.5 per channel. Differentiable.

    Raises:
        ValueError: latents that are not finite.
    """
    with _upcast(vae):
        encoded = [vae.encode(piece.to(vae.dtype)) for piece in frames.split(FRAMES_AT_ONCE)]
    latents = torch.cat([each.latent_dist.mode() if "latent_dist" in each else each.latents for each in encoded])
    shift, scale = _own_factors(vae, latents.device)
    latents = _finite((latents.float() - shift) * scale, "latents", vae)
    return latents if latents_std is None else standardise(latents, latents_mean, latents_std)


def standardise(latents: torch.Tensor, latents_mean: Sequence[float], latents_std: Sequence[float]) -> torch.Tensor:
    """Latents `(F, c, h, w)` of these means and standard deviations with those that the networks take."""
    return (latents - _per_channel(latents_mean, latents)) / _per_channel(latents_std, latents) * STD


@torch.no_grad()
def from_latents(
    vae: Autoencoder,
    latents: torch.Tensor,
    latents_mean: Sequence[float] | None = None,
    latents_std: Sequence[float] | None = None,
) -> torch.Tensor:
    """Frames `(F, C, H, W)`, float32, around [-1, 1]: [`to_latents`] the other way. Raises ValueError as it does."""
    latents = latents.float()
    if latents_std is not None:
        latents = latents / STD * _per_channel(latents_std, latents) + _per_channel(latents_mean, latents)
    shift, scale = _own_factors(vae, latents.device)
    latents = latents / scale + shift
    with _upcast(vae):
        pieces = [vae.decode(piece.to(vae.dtype), return_dict=False)[0] for piece in latents.split(FRAMES_AT_ONCE)]
    return _finite(torch.cat(pieces).float(), "frames", vae)


def statistics(latents: torch.Tensor) -> dict[str, list[float]]:
    """`latents_mean` and `latents_std` of a set's latents `(F, c, h, w)`, scaled by the autoencoder's own factors."""
    flat = latents.double().transpose(0, 1).flatten(1)
    return {"latents_mean": flat.mean(1).tolist(), "latents_std": flat.std(1).clamp(min=1e-6).tolist()}


def _own_factors(vae: Autoencoder, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """`(z - shift) * scale` is what diffusers' pipelines give their networks."""
    config = vae.config
    scale = torch.tensor(float(config.get("scaling_factor") or 1), device=device)
    if config.get("latents_mean") is not None and config.get("latents_std") is not None:
        mean, std = (
            torch.tensor(config[name], device=device)[:, None, None] for name in ("latents_mean", "latents_std")
        )
        return mean, scale / std
    return torch.tensor(float(config.get("shift_factor") or 0), device=device), scale


def _per_channel(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]


@contextmanager
def _upcast(vae: Autoencoder) -> Iterator[None]:
    """Those that overflow in half precision say so in their config; rounding there and back is exact."""
    overflows = vae.dtype == torch.float16 and vae.config.get("force_upcast")
    if overflows:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if overflows:
            vae.to(torch.float16)


def _finite(tensor: torch.Tensor, what: str, vae: Autoencoder) -> torch.Tensor:
    if not tensor.isfinite().all():
        hint = "it overflows in half precision, so set `pipe.vae.to(torch.float32)`"
        raise ValueError(
            f"The autoencoder gave {what} that are not finite: "
            f"{hint if vae.dtype == torch.float16 else 'check its weights and what was given to it'}."
        )
    return tensor


class LatentsMixin:
    """Put before `DiffusionPipeline` among the bases of a pipeline with `encoder`, `unet` and an optional `vae`."""

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(channels, size) of the frames that the pipeline takes and gives, in pixels."""
        config = next(part for part in (self.encoder, self.unet) if part is not None).config
        channels = config.in_channels if self.vae is None else self.vae.config.in_channels
        return channels, config.sample_size * (self.config.vae_scale_factor or 1)

    def prepare_frames(self, clips: Any) -> list[torch.Tensor]:
        """
        Clips as encoder and UNet take them, `(N_b, C, H, W)` each: pixels in [-1, 1], or latents where there is a
        `vae`. Raises ValueError where there is none and the networks were trained on latents.
        """
        self.check_decodable("encodes no clips")
        channels, size = self.frame_shape
        frames = self.clip_processor.preprocess(clips, size=size, num_channels=channels, device=self._execution_device)
        if self.vae is None:
            return frames
        lengths = [len(clip) for clip in frames]
        return list(to_latents(self.vae, torch.cat(frames), **self._latent_statistics).split(lengths))

    def decode_frames(self, latents: torch.Tensor) -> torch.Tensor:
        """What the UNet gives `(F, C, H, W)` as pixels around [-1, 1]."""
        return latents if self.vae is None else from_latents(self.vae, latents, **self._latent_statistics)

    def check_decodable(self, so: str) -> None:
        """Raises ValueError where the autoencoder of a model on latents was left out; `so` is what follows."""
        if self.vae is None and self.config.vae_scale_factor is not None:
            raise ValueError(
                f"This pipeline works on latents and has no `vae`, so it {so}: load it with one, as "
                f"`{type(self).__name__}.from_pretrained(...)` does unless told `vae=None`."
            )

    @property
    def _latent_statistics(self) -> dict[str, list[float] | None]:
        return {name: self.config[name] for name in ("latents_mean", "latents_std")}
