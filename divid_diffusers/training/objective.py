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
    """`loss` is what is minimised; `per_clip` `(B,)` is L_DDPM of each clip. The others are for the log."""

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

    def forward(self, people, motions, noisy, noise: StepNoise, last_timestep: int, args):
        """s is of `people` and d of `motions`, `(B, N, C, H, W)`: the clips themselves, but for `--pair_by`."""
        if args.dynamic_swaps:
            motions = self.shown_by_others(people, motions, noise, last_timestep, args.cuda_graph)
        static_clips, dynamic_clips = views(people, motions, noise, args)
        tokens = self.encoder(static_clips, dynamic_frames=dynamic_clips)
        dynamic = take_frames(tokens.dynamic, noise.frames)
        prediction = self.unet(
            noisy,
            noise.timesteps,
            static=tokens.static + noise.static,
            dynamic=dynamic,
            drop_static=noise.drop_static,
            drop_dynamic=noise.drop_dynamic,
            reference=self.reference(people),
            hide_reference=noise.hide_reference,
        ).sample
        static_of_swaps = None
        if args.invariance_weight:
            of_others = dynamic[:, :1].roll(1, dims=0)
            with torch.no_grad():  # trained by this as well, decoder and encoder could agree on a sign nobody sees
                swaps = self.swaps(tokens.static, of_others, noise.noise[:, :1], people, last_timestep)
            static_of_swaps = self.encoder(swaps).static
        return prediction, tokens.static, tokens.dynamic, static_of_swaps

    @torch.no_grad()
    def shown_by_others(self, people, motions, noise, last_timestep, of_all: bool) -> torch.Tensor:
        """
        The motions; those in `noise.swap` as a swap shows them, predicted in one step from pure noise: performed by
        the person of the next clip. A d that tells who performs is told wrong by it. With `of_all`, which costs more,
        every clip is swapped first: how many are chosen is then no shape.
        """
        chosen = torch.arange(len(motions), device=motions.device) if of_all else noise.swap.nonzero()[:, 0]
        if not len(chosen):
            return motions
        dynamic = self.encoder(motions[chosen]).dynamic
        others = people[(chosen + 1) % len(people), :1]
        start = noise.noise[chosen, :1].expand(-1, motions.shape[1], -1, -1, -1)
        swaps = self.swaps(self.encoder(others).static, dynamic, start, others, last_timestep)
        swapped = motions.index_put((chosen,), swaps.clamp(-1, 1).to(motions.dtype))
        return torch.where(noise.swap[:, None, None, None, None], swapped, motions)

    def swaps(self, static, dynamic, start, people, last_timestep: int) -> torch.Tensor:
        """Predicted in one step from pure noise: `people` `(B, N, C, H, W)`, whose s is `static`, move as d says."""
        reference = self.reference(people)
        return self.unet(start, last_timestep, static=static, dynamic=dynamic, reference=reference).sample

    def reference(self, people: torch.Tensor) -> torch.Tensor | None:
        """The static frames `(B, C, H, W)`, for a decoder that looks at them."""
        return people[:, 0] if self.unet.config.reference_frame else None


def take_frames(clips: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """The frames `(B, K)` of clips `(B, N, ...)`: `(B, K, ...)`."""
    return clips[torch.arange(len(clips), device=clips.device)[:, None], frames]


def views(
    people: torch.Tensor, motions: torch.Tensor, noise: StepNoise, args
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    The clips as s and d are read from them; None where both are the same. Training may change either (our choice, off
    in the paper): what is changed cannot travel through that token.
    """
    static_clips, dynamic_clips = people, motions
    if args.static_mirror:
        static_clips = torch.where(noise.mirror[:, None, None, None, None], people.flip(-1), people)
    if args.dynamic_recolour or args.dynamic_stretch:
        dynamic_clips = stretch(recolour(motions, noise.colour, noise.shade), noise.stretch)
    return static_clips, None if dynamic_clips is static_clips else dynamic_clips


def objective(
    model: nn.Module,
    clips: torch.Tensor,
    noise: StepNoise,
    noise_scheduler: SharedNoiseDDPMScheduler,
    args,
    partners: torch.Tensor | None = None,
) -> Objective:
    r"""
    The loss of clips `(B, N, C, H, W)` in [-1, 1], with the numbers of the paper's equations (Gheisari and Genovesio
    2025, arXiv:2507.13934):

        x_t^i  = sqrt(abar_t) x_0^i + sqrt(1 - abar_t) eps                        (1)
        L_DDPM = mean_i |target_i - prediction(x_t^i, t, s, d_i)|^2               (3), of the frames in `noise.frames`
        L_orth = mean_i cos^2(s, d_i)                                             (4)
        L      = L_DDPM + lambda L_orth                                           (5)
               + static_bottleneck * rate + invariance_weight * L_inv             ours, off in the paper

    The last two are [`static_rate`] and [`invariance_loss`]. With `partners` `(B, N, C, H, W)`, clips of the same
    identity or action as `args.pair_by` says, that token is read from them (weak supervision, our choice).

    Raises ValueError for tokens of unequal widths where lambda is above 0.
    """
    frames = take_frames(clips, noise.frames)
    noisy = noise_scheduler.add_noise(frames, noise.noise, noise.timesteps)
    last_timestep = noise.timesteps.new_full((), noise_scheduler.config.num_train_timesteps - 1)
    people = partners if args.pair_by == "identity" else clips
    motions = partners if args.pair_by == "action" else clips
    prediction, static, dynamic, static_of_swaps = model(people, motions, noisy, noise, last_timestep, args)

    abar = noise_scheduler.alphas_cumprod.to(clips.device)[noise.timesteps]
    target = losses.target(args.prediction_type, frames, noise.noise.expand_as(frames), abar)
    pixel_weight = losses.motion_weight(frames, clips[:, :1], args.motion_weight)
    per_clip = losses.ddpm_loss(prediction, target, pixel_weight, args.huber_scale)
    loss_ddpm, none = per_clip.mean(), per_clip.new_zeros(())
    loss_orth = losses.orthogonality_loss(static, dynamic) if args.orthogonality_weight else none
    rate = losses.static_rate(static)
    loss_inv = none if static_of_swaps is None else losses.invariance_loss(static_of_swaps, static)

    loss = loss_ddpm + args.orthogonality_weight * loss_orth
    loss = loss + args.static_bottleneck * rate + args.invariance_weight * loss_inv
    return Objective(loss, loss_ddpm, loss_orth, loss_inv, rate, per_clip)
