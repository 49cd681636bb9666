"""One evaluation of the training objective."""

from dataclasses import dataclass

import torch
from disguise import recolour, stretch
from step_noise import StepNoise
from torch import nn

from divid_diffusers import SharedNoiseDDPMScheduler, losses


@dataclass
class Objective:
    """`loss` is what is minimised; `per_clip` `(B,)` is L_DDPM of each clip before its weight. The others are for the log."""

    loss: torch.Tensor
    loss_ddpm: torch.Tensor
    loss_orth: torch.Tensor
    per_clip: torch.Tensor


class Trainee(nn.Module):
    """Encoder and UNet as one module, so that gradients are synchronised, clipped and averaged as one."""

    def __init__(self, encoder, unet):
        super().__init__()
        self.encoder, self.unet = encoder, unet

    def forward(self, clips, dynamic_clips, noisy, noise: StepNoise):
        tokens = self.encoder(clips, dynamic_frames=dynamic_clips)
        dynamic = take_frames(tokens.dynamic, noise.frames)
        prediction = self.unet(
            noisy,
            noise.timesteps,
            static=tokens.static,
            dynamic=dynamic,
            drop_static=noise.drop_static,
            drop_dynamic=noise.drop_dynamic,
        ).sample
        return prediction, tokens.static, tokens.dynamic


def take_frames(clips: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """The frames `(B, K)` of clips `(B, N, ...)`: `(B, K, ...)`."""
    return clips[torch.arange(len(clips), device=clips.device)[:, None], frames]


def objective(
    model: nn.Module, clips: torch.Tensor, noise: StepNoise, noise_scheduler: SharedNoiseDDPMScheduler, args
) -> Objective:
    """L = L_DDPM + lambda L_orth (equation 5), with what `args` adds to it, for clips `(B, N, C, H, W)` in [-1, 1]."""
    dynamic_clips = None
    if args.dynamic_recolour or args.dynamic_stretch:
        dynamic_clips = stretch(recolour(clips, noise.colour, noise.shade), noise.stretch)
    chosen = take_frames(clips, noise.frames)
    noisy = noise_scheduler.add_noise(chosen, noise.noise, noise.timesteps)
    prediction, static, dynamic = model(clips, dynamic_clips, noisy, noise)

    abar = noise_scheduler.alphas_cumprod.to(clips.device)[noise.timesteps]
    target = losses.target(args.prediction_type, chosen, noise.noise.expand_as(chosen), abar)
    pixel_weight = losses.motion_weight(chosen, clips[:, :1], args.motion_weight) if args.motion_weight else 1.0
    per_clip = losses.ddpm_loss(prediction, target, pixel_weight)
    loss_ddpm = per_clip.mean()
    if args.snr_gamma is not None:
        loss_ddpm = (losses.min_snr_weight(args.prediction_type, abar, args.snr_gamma) * per_clip).mean()
    loss_orth = torch.zeros_like(loss_ddpm)
    if static.shape[-1] == dynamic.shape[-1]:
        loss_orth = losses.orthogonality_loss(static, dynamic)
    return Objective(loss_ddpm + args.orthogonality_weight * loss_orth, loss_ddpm, loss_orth, per_clip)
