"""
What decoders do to clips: they blur, and leave noise. A judge that stumbles over either measures sharpness, not swaps.
And what swaps do: they perform an action in another place and size. A judge that stumbles over that measures who
stands where.

The strengths are those of this package's models on training clips of UTD-MHAD depth and Sprites: as few fine edges
are left in DiViD's, DBSE's and SPYL's reconstructions as after a Gaussian blur of 0.4 to 1.0 pixels, and what differs
from the real clip at the scale of a pixel has a standard deviation of 0.02 to 0.07.
"""

import math

import torch
from torch.nn import functional as F


BLUR = 1.0  # pixels
NOISE = 0.05  # of values in [0, 1]
SHIFT, ZOOM = 8, 0.15  # pixels, at most, and how much larger or smaller: people of UTD-MHAD are 35 to 52 pixels tall


def blurred(clips: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """
    Clips `(B, N, C, H, W)`, each blurred by a Gaussian of its own `sigma` `(B,)` in pixels, 0 for none; the border is
    continued.
    """
    reach = max(1, math.ceil(3 * float(sigma.max())))
    steps = torch.arange(-reach, reach + 1)
    kernel = (-steps.square() / (2 * sigma[:, None].clamp_min(1e-3).square())).exp()
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).to(clips)[:, None, None]
    images = clips.flatten(1, 2).transpose(0, 1)  # every clip a channel
    images = F.pad(images, (reach,) * 4, mode="replicate")
    images = F.conv2d(F.conv2d(images, kernel, groups=len(clips)), kernel.mT, groups=len(clips))
    return images.transpose(0, 1).reshape(clips.shape)


def noisy(clips: torch.Tensor, sigma: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Clips `(B, N, C, H, W)` in [0, 1] with Gaussian noise of `sigma` `(B,)`, every pixel its own, clipped."""
    noise = torch.randn(clips.shape, generator=generator)
    return (clips + sigma.view(-1, 1, 1, 1, 1) * noise).clamp(0, 1)


def moved(clips: torch.Tensor, shift: torch.Tensor, zoom: torch.Tensor) -> torch.Tensor:
    """
    Clips `(B, N, C, H, W)`, each seen from a frame that is moved by `shift` `(B, 2)` pixels to the right and down and
    is `zoom` `(B, 2)` times as wide and high; the border is continued.
    """
    batch, _, _, height, width = clips.shape
    theta = torch.diag_embed(zoom)
    theta = torch.cat([theta, (shift * 2 / torch.tensor([width, height]))[..., None]], dim=-1)
    grid = F.affine_grid(theta, [batch, 1, height, width], align_corners=False)
    return F.grid_sample(clips.flatten(1, 2), grid, padding_mode="border", align_corners=False).view(clips.shape)
