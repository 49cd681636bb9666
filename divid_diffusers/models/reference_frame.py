"""
What a decoder does with the static frame itself, where it sees it (`reference_frame`; our choice, no part of the
paper): it reads the frame beside the noisy one and moves its pixels, as image animation does (Siarohin et al. 2019,
arXiv:2003.00196).
"""

import torch
from torch import nn
from torch.nn import functional as F


def num_inputs(channels: int, patch_size: int) -> int:
    """Channels that the first convolution sees besides the noisy frame: the static frame, and whether it is there."""
    return channels * patch_size**2 + 1


def num_outputs(patch_size: int) -> int:
    """Channels that the last convolution says besides the frame: where pixels come from, and how far to trust it."""
    return 2 + patch_size**2


@torch.no_grad()
def start_from_nothing(unet: nn.Module, channels: int) -> None:
    """Weights of the new channels to zero: nothing is read, nothing is moved, and half of each is shown."""
    folded = channels * unet.config.patch_size**2
    unet.conv_in.weight[:, folded:] = 0
    unet.conv_out.weight[folded:] = 0
    unet.conv_out.bias[folded:] = 0


def beside(folded: torch.Tensor, reference: torch.Tensor, seen: torch.Tensor, patch_size: int) -> torch.Tensor:
    """The input `(F, C', H, W)` of the first convolution: noisy frames, static frames, 1 where these are seen."""
    reference = F.pixel_unshuffle(reference.to(folded.dtype), patch_size)
    seen = seen.to(folded.dtype)[:, None, None, None]
    return torch.cat([folded, reference * seen, seen.expand(-1, 1, *folded.shape[2:])], dim=1)


def compose(output: torch.Tensor, reference: torch.Tensor, seen: torch.Tensor, patch_size: int) -> torch.Tensor:
    r"""
    Frames of the last convolution's output: with the flow `u`, which is as coarse as the folded frame and enlarged
    smoothly, the mask `m` in (0, 1) of each pixel, and the drawn frame `y`,

        x_0(p) = m(p) reference(p + u(p)) + (1 - m(p)) y(p)

    Where the static frame is not seen, m is 0.

    Args:
        output (`torch.Tensor` of shape `(F, C p^2 + 2 + p^2, H / p, W / p)`): y and m folded, u in halves of a side.
        reference (`torch.Tensor` of shape `(F, C, H, W)`), seen (`(F,)`): static frames, and where they are seen.
    """
    height, width = reference.shape[-2:]
    drawn, flow, mask = output.float().tensor_split([-2 - patch_size**2, -(patch_size**2)], dim=1)
    drawn = F.pixel_shuffle(drawn, patch_size)
    mask = F.pixel_shuffle(mask, patch_size).sigmoid() * seen.float()[:, None, None, None]
    flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
    same_place = F.affine_grid(torch.eye(2, 3, device=flow.device)[None], [1, 1, height, width], align_corners=False)
    moved = F.grid_sample(
        reference.float(), same_place + flow.permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )
    return (mask * moved + (1 - mask) * drawn).to(output.dtype)


def with_reference_frame(unet: nn.Module) -> nn.Module:
    """A decoder of the same weights that also sees the static frame, which so far it makes nothing of but a veil."""
    wide = type(unet).from_config(unet.config, reference_frame=True)
    weights = wide.state_dict()
    for name, weight in unet.state_dict().items():
        weights[name][tuple(slice(length) for length in weight.shape)] = weight  # the new channels are the last
    wide.load_state_dict(weights)
    return wide
