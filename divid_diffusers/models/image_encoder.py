"""The image encoder of the paper, of DiViD itself and of the baselines as the paper compares them."""

import torch
from diffusers.models.autoencoders.vae import Encoder
from torch import nn
from torch.nn import functional as F


class ImageEncoder(nn.Module):
    """
    Frames `(F, C, H, W)` in [-1, 1] to embeddings `(F, E)`, every frame on its own: a convolutional encoder, then a
    1x1 convolution (DiViD, arXiv:2507.13934, "sequence encoder"; the encoder is latent diffusion's).

    Args:
        in_channels (`int`): of a frame.
        patch_size (`int`): side of the pixel blocks folded into channels before the first convolution; 1 in the paper.
        latent_channels (`int`): channels of the embedding, whose side is `H / (patch_size * 2^(levels - 1))`.
        pixel_shortcut (`bool`): the 1x1 convolution also sees the frame itself, averaged down to the embedding's side.
        attention (`bool`): self-attention at the lowest resolution.
        widths: `block_out_channels`, `layers_per_block` and `norm_num_groups` of diffusers' `Encoder`.
    """

    def __init__(
        self, in_channels: int, patch_size: int, latent_channels: int, pixel_shortcut: bool, attention: bool, **widths
    ):
        super().__init__()
        self.patch_size, self.pixel_shortcut = patch_size, pixel_shortcut
        self.encoder = Encoder(
            in_channels=in_channels * patch_size**2,
            out_channels=latent_channels,
            down_block_types=("DownEncoderBlock2D",) * len(widths["block_out_channels"]),
            double_z=False,
            mid_block_add_attention=attention,
            **widths,
        )
        self.proj = nn.Conv2d(latent_channels + in_channels * pixel_shortcut, latent_channels, kernel_size=1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        features = self.encoder(F.pixel_unshuffle(frames, self.patch_size))
        if self.pixel_shortcut:
            features = torch.cat([features, F.adaptive_avg_pool2d(frames, features.shape[-2:])], dim=1)
        return self.proj(features).flatten(1)
