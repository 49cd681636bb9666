"""Swaps of Puppets scored against the true clips: the renderer can draw any person performing any motion."""

from dataclasses import dataclass

import numpy as np
import torch

from ..data.puppets import MOTIONS, Appearance, render
from .reconstruction import motion_error, psnr


@dataclass
class PuppetSwapScores:
    """
    Attributes:
        psnr (`float`): dB, decoded swap against the rendered one, mean over swaps.
        motion_error (`float`): see [`motion_error`]; 0 is perfect, 1 a motionless clip.
        identity_kept (`float`): share of swaps nearer (mean squared error) to the true clip than to the same motion
            performed by any other person of the set.
        motion_kept (`float`): share of swaps nearer to the true clip than to the same person performing any of the other
            motions, each rendered with the donor's seed.
        num_swaps (`int`): n.
    """

    psnr: float
    motion_error: float
    identity_kept: float
    motion_kept: float
    num_swaps: int


def render_clip(identity: int, action: int, motion_seed: int, num_frames: int) -> torch.Tensor:
    """The true clip, `(N, 3, H, W)` in [0, 1]."""
    frames = render(Appearance.sample(identity), MOTIONS[action], motion_seed, num_frames)
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def score_swaps(swaps: torch.Tensor, static_donors: list[dict], dynamic_donors: list[dict]) -> PuppetSwapScores:
    """
    Args:
        swaps (`torch.Tensor` of shape `(B, N, 3, 64, 64)`): decoded clips in [0, 1].
        static_donors, dynamic_donors (`list[dict]` of length B): the items of [`Puppets`] whose identity, and whose action
            and motion seed, clip b should show.
    """
    people = sorted({donor["identity"] for donor in static_donors})
    num_frames = swaps.shape[1]
    truths, identity_kept, motion_kept = [], [], []
    for swap, static, dynamic in zip(swaps, static_donors, dynamic_donors):
        person, action, seed = static["identity"], dynamic["action"], dynamic["motion_seed"]
        true_clip = render_clip(person, action, seed, num_frames)
        error = (swap - true_clip).square().mean()

        def nearest(others: list[torch.Tensor]) -> bool:
            return all(error < (swap - other).square().mean() for other in others)

        identity_kept.append(nearest([render_clip(p, action, seed, num_frames) for p in people if p != person]))
        others = (a for a in range(len(MOTIONS)) if a != action)
        motion_kept.append(nearest([render_clip(person, a, seed, num_frames) for a in others]))
        truths.append(true_clip)
    truth = torch.stack(truths)
    return PuppetSwapScores(
        psnr=psnr(truth, swaps).mean().item(),
        motion_error=motion_error(truth, swaps).mean().item(),
        identity_kept=float(np.mean(identity_kept)),
        motion_kept=float(np.mean(motion_kept)),
        num_swaps=len(swaps),
    )
