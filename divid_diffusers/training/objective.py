"""One evaluation of the training objective."""

from dataclasses import dataclass

import torch
from torch import nn

from ..schedulers.scheduling_shared_noise_ddpm import SharedNoiseDDPMScheduler
from . import losses
from .augment import recolour, stretch
from .step_noise import StepNoise


@dataclass
class Objective:
    """
    `loss` is what is minimised; `per_clip` `(B,)` is L_DDPM of each clip before its weight. The others are for the
    log.
    """

    loss: torch.Tensor
    loss_ddpm: torch.Tensor
    loss_orth: torch.Tensor
    loss_inv: torch.Tensor
    rate: torch.Tensor
    per_clip: torch.Tensor


class TrainingModule(nn.Module):
    """Encoder and UNet as one module, so that gradients are synchronised, clipped and averaged as one."""

    def __init__(self, encoder, unet):
        super().__init__()
        self.encoder, self.unet = encoder, unet

    def forward(self, clips, dynamic_clips, noisy, noise: StepNoise, last_timestep: int | None = None):
        tokens = self.encoder(clips, dynamic_frames=dynamic_clips)
        dynamic = take_frames(tokens.dynamic, noise.frames)
        prediction = self.unet(
            noisy,
            noise.timesteps,
            static=tokens.static + noise.static,
            dynamic=dynamic,
            drop_static=noise.drop_static,
            drop_dynamic=noise.drop_dynamic,
        ).sample
        static_of_swaps = None
        if last_timestep is not None:
            of_others = dynamic[:, :1].roll(1, dims=0)
            static_of_swaps = self.static_of_swaps(tokens.static, of_others, noise.noise, last_timestep)
        return prediction, tokens.static, tokens.dynamic, static_of_swaps

    def static_of_swaps(self, static, dynamic, noise, last_timestep: int) -> torch.Tensor:
        """
        s `(B, S)` of swaps that are predicted in one step from pure noise. The decoder is left alone: were it trained
        by this as well, the two could agree on a sign that nobody sees.
        """
        with torch.no_grad():
            swaps = self.unet(noise, last_timestep, static=static, dynamic=dynamic).sample
        return self.encoder(swaps).static


def take_frames(clips: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """The frames `(B, K)` of clips `(B, N, ...)`: `(B, K, ...)`."""
    return clips[torch.arange(len(clips), device=clips.device)[:, None], frames]


def objective(
    model: nn.Module, clips: torch.Tensor, noise: StepNoise, noise_scheduler: SharedNoiseDDPMScheduler, args
) -> Objective:
    """L = L_DDPM + lambda L_orth (equation 5), with what `args` adds to it, for clips `(B, N, C, H, W)` in [-1, 1]."""
    static_clips, dynamic_clips = clips, None
    if args.dynamic_recolour or args.dynamic_stretch:
        dynamic_clips = stretch(recolour(clips, noise.colour, noise.shade), noise.stretch)
    if args.static_mirror:
        dynamic_clips = clips if dynamic_clips is None else dynamic_clips
        static_clips = torch.where(noise.mirror[:, None, None, None, None], clips.flip(-1), clips)
    chosen = take_frames(clips, noise.frames)
    noisy = noise_scheduler.add_noise(chosen, noise.noise, noise.timesteps)
    last_timestep = noise_scheduler.config.num_train_timesteps - 1 if args.invariance_weight else None
    prediction, static, dynamic, static_of_swaps = model(static_clips, dynamic_clips, noisy, noise, last_timestep)

    abar = noise_scheduler.alphas_cumprod.to(clips.device)[noise.timesteps]
    target = losses.target(args.prediction_type, chosen, noise.noise.expand_as(chosen), abar)
    pixel_weight = losses.motion_weight(chosen, clips[:, :1], args.motion_weight) if args.motion_weight else 1.0
    per_clip = losses.ddpm_loss(prediction, target, pixel_weight, args.huber_scale)
    loss_ddpm = per_clip.mean()
    if args.snr_gamma is not None:
        loss_ddpm = (losses.min_snr_weight(args.prediction_type, abar, args.snr_gamma) * per_clip).mean()
    loss_orth = torch.zeros_like(loss_ddpm)
    if args.orthogonality_weight or static.shape[-1] == dynamic.shape[-1]:  # widths that differ have none
        loss_orth = losses.orthogonality_loss(static, dynamic)
    loss = loss_ddpm + args.orthogonality_weight * loss_orth
    rate = losses.static_rate(static)
    loss = loss + args.static_bottleneck * rate
    loss_inv = torch.zeros_like(loss_ddpm)
    if static_of_swaps is not None:
        loss_inv = losses.invariance_loss(static_of_swaps, static)
        loss = loss + args.invariance_weight * loss_inv
    return Objective(loss, loss_ddpm, loss_orth, loss_inv, rate, per_clip)
