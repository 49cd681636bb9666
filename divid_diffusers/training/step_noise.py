"""Everything random in a training step, as a function of (seed, step) and of nothing else."""

from dataclasses import dataclass, fields

import torch


GROWN = 2000  # steps
REFERENCE_DROPOUT = 0.2  # so that s goes on to be learned where the decoder sees the static frame as well


@dataclass
class StepNoise:
    """
    Draws for a batch of B clips.

    Attributes:
        timesteps (`(B,)`): one t per clip (equation 1).
        noise (`(B, 1, C, H, W)`): one noise per clip; `(B, K, C, H, W)` without shared noise.
        frames (`(B, K)`): the frames of each clip that are denoised.
        drop_static, drop_dynamic (`(B,)`): clips that lose a token to guidance.
        colour (`(B, C, C)`), shade (`(B, C)`), stretch (`(B, 2)`): the augmentation of the clip that d is read from.
        static (`(B, S)`): the noise that the bottleneck adds to s; zero without one.
        mirror (`(B,)`): clips whose s is read from a mirrored frame.
        swap (`(B,)`): clips whose d is read from a swap of theirs.
        hide_reference (`(B,)`): clips whose static frame the decoder does not see; with those that lose s to guidance.
    """

    timesteps: torch.Tensor
    noise: torch.Tensor
    frames: torch.Tensor
    drop_static: torch.Tensor
    drop_dynamic: torch.Tensor
    colour: torch.Tensor
    shade: torch.Tensor
    stretch: torch.Tensor
    static: torch.Tensor
    mirror: torch.Tensor
    swap: torch.Tensor
    hide_reference: torch.Tensor

    def to(self, device: torch.device) -> "StepNoise":
        return StepNoise(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def draw(
    args,
    step: int,
    micro_batch: int,
    rank: int,
    world_size: int,
    channels: int,
    size: int,
    static_dim: int,
    num_train_timesteps: int,
) -> StepNoise:
    """
    The draws of process `rank` for one micro-batch of a step. They are made for the whole batch of all processes and
    then cut, so the same clips meet the same noise however many processes share the work, and a resumed run goes on
    exactly.
    """
    number = step * args.gradient_accumulation_steps + micro_batch
    # torch keeps the low 32 bits of a seed only; the factor, a prime, keeps runs of a million steps apart
    generator = torch.Generator().manual_seed((args.seed * 1_000_003 + number) % 2**32)
    total = args.train_batch_size * world_size
    mine = slice(rank * args.train_batch_size, (rank + 1) * args.train_batch_size)
    share = swap_share(args, step)
    noise = draw_on("cpu", args, total, channels, size, static_dim, num_train_timesteps, share, generator)
    return StepNoise(**{field.name: getattr(noise, field.name)[mine] for field in fields(noise)})


def draw_on(
    device: torch.device | str,
    args,
    total: int,
    channels: int,
    size: int,
    static_dim: int,
    num_train_timesteps: int,
    swap_share: float = 0.0,
    generator: torch.Generator | None = None,
) -> StepNoise:
    """The draws of `total` clips, on a device."""

    def uniform(*shape):
        return torch.rand(shape, generator=generator, device=device)

    def normal(*shape):
        return torch.randn(shape, generator=generator, device=device)

    # uniform for a bias of 1; above, the high noise where a frame has to come from its tokens is seen more often
    timesteps = (
        (num_train_timesteps * (1 - uniform(total) ** args.timestep_bias)).long().clamp(0, num_train_timesteps - 1)
    )
    noise = normal(total, 1 if args.shared_noise else args.frames_per_clip, channels, size, size)
    frames = uniform(total, args.num_frames).argsort(dim=1)[:, : args.frames_per_clip]
    colour = torch.eye(channels, device=device) + args.dynamic_recolour * normal(total, channels, channels)
    drop_static = uniform(total) < args.static_dropout
    return StepNoise(
        timesteps=timesteps,
        noise=noise,
        frames=frames,
        drop_static=drop_static,
        drop_dynamic=uniform(total) < args.dynamic_dropout,
        colour=colour,
        shade=0.3 * args.dynamic_recolour * normal(total, channels),
        stretch=(1 + args.dynamic_stretch * normal(total, 2)).clamp(0.5, 2),
        static=normal(total, static_dim) * bool(args.static_bottleneck),
        mirror=uniform(total) < 0.5 * args.static_mirror,
        swap=uniform(total) < swap_share,
        hide_reference=drop_static | (uniform(total) < REFERENCE_DROPOUT),
    )


def swap_share(args, step: int) -> float:
    """
    Of clips whose d is read from a swap. What an untrained model swaps shows no motion: the share grows from 0 in the
    first `GROWN` steps, unless training starts from a model that can swap.
    """
    return args.dynamic_swaps * (1 if args.pretrained_model_name_or_path else min(step / GROWN, 1))
