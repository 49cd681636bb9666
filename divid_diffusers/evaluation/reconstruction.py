"""How close a decoded clip is to the true one."""

import torch


def psnr(truth: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each clip, shape `(B,)`; clips `(B, N, C, H, W)` in [0, 1]."""
    error = (truth - decoded).square().mean(dim=(1, 2, 3, 4))
    return -10 * error.clamp(min=1e-10).log10()


def motion_error(truth: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    r"""
    Do the frame differences follow the true ones? For each clip, shape `(B,)`, with `D_i = x_i - x_1`:

        sqrt( sum ||D_i(truth) - D_i(decoded)||^2 / sum ||D_i(truth)||^2 )

    0 is perfect motion, 1 what a motionless clip gets, more is worse than not moving (our choice of measure). Clips
    `(B, N, C, H, W)` in [0, 1].
    """
    true_motion, motion = truth[:, 1:] - truth[:, :1], decoded[:, 1:] - decoded[:, :1]
    error = (true_motion - motion).square().sum(dim=(1, 2, 3, 4))
    return (error / true_motion.square().sum(dim=(1, 2, 3, 4)).clamp(min=1e-10)).sqrt()
