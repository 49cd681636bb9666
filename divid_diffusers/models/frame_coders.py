"""
Frames to embeddings and tokens back to frames, one by one: as the baselines publish it, and as the DiViD paper
compares them.
"""

import torch
from diffusers.models.autoencoders.vae import Decoder
from torch import nn
from torch.nn import functional as F


FORMS = ("divid", "published")


class Layers(nn.Sequential):
    """
    A network of fixed layers. Some of them, a slice as block-level offloading takes it, are no network of the kind.
    """

    def __getitem__(self, index):
        return nn.Sequential(*self)[index]


class DCGANFrameEncoder(Layers):
    """
    The published frame encoder: frames `(F, C, H, W)` in [-1, 1] to embeddings `(F, E)` in [-1, 1]. Convolutions 4x4
    of stride 2 with BatchNorm and LeakyReLU 0.2, then one over the whole 4x4 map, BatchNorm, tanh.
    """

    def __init__(self, in_channels: int, block_out_channels: tuple[int, ...], embedding_dim: int):
        layers, width = [], in_channels
        for out_channels in block_out_channels:
            layers += [nn.Conv2d(width, out_channels, 4, stride=2, padding=1), nn.BatchNorm2d(out_channels)]
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            width = out_channels
        super().__init__(*layers, nn.Conv2d(width, embedding_dim, 4), nn.BatchNorm2d(embedding_dim), nn.Tanh())

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return super().forward(frames / 2 + 0.5).flatten(1)


class DCGANFrameDecoder(Layers):
    """
    The published frame decoder: `[d_i, s]` `(F, D + S)` to frames `(F, C, H, W)` in [-1, 1]. The encoder's mirror
    image in transposed convolutions; the last gives the pixels through a sigmoid.
    """

    def __init__(self, token_dim: int, block_out_channels: tuple[int, ...], out_channels: int):
        widths = tuple(reversed(block_out_channels))
        layers = [nn.ConvTranspose2d(token_dim, widths[0], 4)]
        for width, next_width in zip(widths, (*widths[1:], out_channels)):
            layers += [nn.BatchNorm2d(width), nn.LeakyReLU(0.2, inplace=True)]
            layers.append(nn.ConvTranspose2d(width, next_width, 4, stride=2, padding=1))
        super().__init__(*layers, nn.Sigmoid())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens[:, :, None, None]) * 2 - 1


class DiViDFrameDecoder(nn.Module):
    """
    The mirror image of DiViD's image encoder: `[d_i, s]` `(F, D + S)` to frames `(F, C, H, W)`, in [-1, 1] up to what
    training left. The paper has "spatial attention at selected resolutions"; here at the lowest (our choice).
    """

    def __init__(self, token_dim: int, side: int, latent_channels: int, out_channels: int, patch_size: int, **widths):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Sequential(
            nn.Linear(token_dim, latent_channels * side**2), nn.Unflatten(1, (latent_channels, side, side))
        )
        self.decoder = Decoder(
            in_channels=latent_channels,
            out_channels=out_channels * patch_size**2,
            up_block_types=("UpDecoderBlock2D",) * len(widths["block_out_channels"]),
            mid_block_add_attention=True,
            **widths,
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.decoder(self.proj(tokens)), self.patch_size)
