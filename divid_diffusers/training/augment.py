"""
Augments the copy of a clip that d is read from: what is changed cannot help d to rebuild the clip, so looks are left
to s.
"""

import torch
from torch.nn import functional as F


def recolour(clips: torch.Tensor, colour: torch.Tensor, shade: torch.Tensor) -> torch.Tensor:
    """
    `colour @ pixel + shade`, the same for all frames; clips `(B, N, C, H, W)`, colour `(B, C, C)`, shade `(B, C)`.
    """
    mixed = torch.einsum("bij,bnjhw->bnihw", colour, clips) + shade[:, None, :, None, None]
    return mixed.clamp(-1, 1)


def stretch(clips: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Each clip scaled about its centre by `factors` `(B, 2)`, horizontally and vertically, its border continued."""
    theta = torch.diag_embed(1 / factors)  # the grid says where an output pixel comes from
    theta = torch.cat([theta, torch.zeros_like(theta[:, :, :1])], dim=-1)
    images = clips.flatten(1, 2)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False).view_as(clips)
