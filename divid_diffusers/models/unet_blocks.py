"""Blocks of the UNet that diffusers does not have."""

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D, CrossAttnUpBlock2D
from torch import nn


class ResnetCrossAttnDownBlock2D(CrossAttnDownBlock2D):
    """
    The stock cross-attention block, down-sampled by a residual block with time embedding instead of a convolution.
    """

    def __init__(self, out_channels: int, temb_channels: int, resnet_groups: int, add_downsample: bool, **kwargs):
        norm = {
            "temb_channels": temb_channels,
            "resnet_groups": resnet_groups,
            "resnet_time_scale_shift": "scale_shift",
        }
        super().__init__(out_channels=out_channels, add_downsample=False, **norm, **kwargs)
        self.downsampler = (
            residual_sampler(out_channels, temb_channels, resnet_groups, down=True) if add_downsample else None
        )

    def forward(self, hidden_states, temb=None, **kwargs):
        hidden_states, output_states = super().forward(hidden_states, temb, **kwargs)
        if self.downsampler is not None:
            hidden_states = self.downsampler(hidden_states, temb)
            output_states += (hidden_states,)
        return hidden_states, output_states


class ResnetCrossAttnUpBlock2D(CrossAttnUpBlock2D):
    """The stock cross-attention block, up-sampled by a residual block with time embedding instead of a convolution."""

    def __init__(self, out_channels: int, temb_channels: int, resnet_groups: int, add_upsample: bool, **kwargs):
        norm = {
            "temb_channels": temb_channels,
            "resnet_groups": resnet_groups,
            "resnet_time_scale_shift": "scale_shift",
        }
        super().__init__(out_channels=out_channels, add_upsample=False, **norm, **kwargs)
        self.upsampler = (
            residual_sampler(out_channels, temb_channels, resnet_groups, up=True) if add_upsample else None
        )

    def forward(self, hidden_states, res_hidden_states_tuple, temb=None, **kwargs):
        hidden_states = super().forward(hidden_states, res_hidden_states_tuple, temb, **kwargs)
        if self.upsampler is not None:
            hidden_states = self.upsampler(hidden_states, temb)
        return hidden_states


def residual_sampler(channels: int, temb_channels: int, groups: int, **direction: bool) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels=channels,
        out_channels=channels,
        temb_channels=temb_channels,
        groups=groups,
        eps=1e-5,
        time_embedding_norm="scale_shift",
        **direction,
    )


class PositionedConv2d(nn.Conv2d):
    """The 3x3 convolution `conv`, to which a learned embedding of each of the side x side positions is added."""

    def __init__(self, conv: nn.Conv2d, side: int):
        super().__init__(conv.in_channels, conv.out_channels, kernel_size=3, padding=1)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(conv.out_channels, side, side))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = super().forward(hidden_states)
        # added in float32, it would make all that follows float32 under autocast
        return hidden_states + self.position_embedding.to(hidden_states.dtype)
