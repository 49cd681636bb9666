"""The decoder: a UNet that denoises every frame given its clip's static token and its own dynamic token."""

import torch
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from einops import rearrange, repeat
from torch import nn
from torch.nn import functional as F

from .attention_processor import ContextCache, PixelAttnProcessor, StaticDynamicAttnProcessor
from .modeling_utils import StrictLoadingMixin
from .offloading import reads_weights
from .reference_frame import beside, compose, num_inputs, num_outputs, start_from_nothing
from .unet_blocks import PositionedConv2d, ResnetCrossAttnDownBlock2D, ResnetCrossAttnUpBlock2D


class DiViDUNet2DConditionModel(StrictLoadingMixin, UNet2DConditionModel):
    r"""
    The noise of every frame given two tokens: `eps_theta(x_t^i, t, s, d_i)` (the paper's equation 2). A frame meets
    the rest of its clip only through the tokens; there are no temporal layers.

    The context of frame i is two tokens, each through a linear projection of its own: `[W_s s ; W_d d_i]`, shape
    `(2, A)` with A the attention width. Spatial transformers (self-attention, cross-attention to the context,
    feed-forward) follow every residual block of the levels that have attention. Scale-shift norm (FiLM) injects the
    time embedding; residual blocks change the resolution. Multipliers and heads are EncDiff's (Yang et al. 2024,
    arXiv:2402.09712), whose decoder has each of these switches.

    ```python
    import torch

    from divid_diffusers import build_models

    encoder, unet = build_models("tiny")
    tokens = encoder(torch.rand(2, 10, 3, 64, 64) * 2 - 1)
    noisy, timesteps = torch.randn(2, 10, 3, 64, 64), torch.tensor([10, 900])  # one t per clip
    noise = unet(noisy, timesteps, static=tokens.static, dynamic=tokens.dynamic).sample  # (2, 10, 3, 64, 64)
    ```

    Args:
        sample_size (`int`): height and width of a frame in pixels.
        in_channels, out_channels (`int`): channels of a frame: 3 for RGB, 1 for grey or depth.
        patch_size (`int`): side of the pixel blocks folded into channels at the input and unfolded at the output; 1 in
            the paper. 4 makes a UNet sixteen times cheaper per channel (our choice for small machines).
        block_out_channels (`tuple[int]`): width per level, from full resolution down.
        layers_per_block (`int`): residual blocks per level on the way down, one more on the way up.
        attention_levels (`tuple[bool]`): the levels with spatial transformers; the paper's 64 px model has them at 32,
            16, 8.
        num_attention_heads (`int` or `tuple[int]`): heads, per level if a tuple. (The parent calls this
            `attention_head_dim`.)
        cross_attention_dim (`int`): A, the width of the projected tokens (our choice: 256).
        static_dim, dynamic_dim (`int`): S and D, the widths of the encoder's tokens.
        norm_num_groups (`int`): groups of GroupNorm.
        prediction_type (`str`): what the output is: `"epsilon"` (the paper), `"v_prediction"` or `"sample"` (x_0). It
            belongs to the weights; [`DiViDPipeline`] refuses a scheduler that reads the output as something else.
        cross_attention (`bool`): the transformers look at the two tokens, as in the paper. Without it, which takes
            `token_modulation`, they look at the frame alone.
        token_modulation (`bool`): a projection of both tokens is also added to the time embedding, and so modulates
            every residual block (as in Preechakul et al. 2022, arXiv:2111.15640, and Zisling et al. 2025,
            arXiv:2510.05717). Off in the paper; it learns faster.
        position_embedding (`bool`): a learned embedding of each position is added after the first convolution. Off in
            the paper; at high noise the frame itself says little about where a pixel is.
        shrink_input (`bool`): the noisy frame is multiplied by about `sqrt(abar_t)` of DDPM's linear schedule (see
            `_shrinkage`), so that at high noise, where it says nothing, it does not drown what the tokens say. Off in
            the paper.
        shared_noise (`bool`): the noise of a clip is the same in all its frames, as in the paper (equation 1), or
            each frame has its own. It belongs to the weights: [`DiViDPipeline`] samples as training did.
        reference_frame (`bool`): the decoder also sees the static frame, and says for every pixel where in that frame
            it comes from and how far to trust that (see [`compose`]). Off in the paper, where all that a decoder
            knows of the static frame is s; takes `prediction_type="sample"`.
        static_dropout, dynamic_dropout (`float`): how often training replaces a clip's s, or its d, by a learned null
            token. Above zero the checkpoint can be guided per factor. The network itself draws nothing: the caller
            passes `drop_static` and `drop_dynamic`. Zero in the paper.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 64,
        in_channels: int = 3,
        out_channels: int = 3,
        patch_size: int = 1,
        block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        attention_levels: tuple[bool, ...] = (False, True, True, True),
        num_attention_heads: int | tuple[int, ...] = 8,
        cross_attention_dim: int = 256,
        static_dim: int = 256,
        dynamic_dim: int = 256,
        norm_num_groups: int = 32,
        prediction_type: str = "epsilon",
        cross_attention: bool = True,
        token_modulation: bool = False,
        position_embedding: bool = False,
        shrink_input: bool = False,
        shared_noise: bool = True,
        reference_frame: bool = False,
        static_dropout: float = 0.0,
        dynamic_dropout: float = 0.0,
    ):
        own_config = dict(self.config)
        levels = len(block_out_channels)
        if len(attention_levels) != levels:
            raise ValueError(
                f"`attention_levels` has {len(attention_levels)} entries and `block_out_channels` {levels}: give one "
                "per level."
            )
        if not cross_attention and not token_modulation:
            raise ValueError(
                "Without `cross_attention` and `token_modulation` no token reaches the frames: set one of them."
            )
        if reference_frame and prediction_type != "sample":
            raise ValueError(
                "`reference_frame` moves pixels of a clean frame, and `prediction_type` is "
                f"{prediction_type!r}: choose 'sample'."
            )
        if isinstance(num_attention_heads, int):
            num_attention_heads = (num_attention_heads,) * levels
        more_in, more_out = num_inputs(in_channels, patch_size), num_outputs(patch_size)
        super().__init__(
            sample_size=sample_size // patch_size,
            in_channels=in_channels * patch_size**2 + more_in * reference_frame,
            out_channels=out_channels * patch_size**2 + more_out * reference_frame,
            down_block_types=("ResnetDownsampleBlock2D",) * levels,
            up_block_types=("ResnetUpsampleBlock2D",) * levels,
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            attention_head_dim=tuple(num_attention_heads),
            cross_attention_dim=cross_attention_dim,
            norm_num_groups=norm_num_groups,
            resnet_time_scale_shift="scale_shift",
        )
        # The parent has registered its own reading of the names we share: `in_channels` and `sample_size` after
        # folding.
        self.register_to_config(**own_config)

        temb_channels = self.time_embedding.linear_2.out_features
        for level in filter(lambda level: attention_levels[level], range(levels)):
            width, narrower = block_out_channels[level], block_out_channels[max(level - 1, 0)]
            common = {
                "out_channels": width,
                "temb_channels": temb_channels,
                "resnet_groups": norm_num_groups,
                "resnet_eps": 1e-5,
                "num_attention_heads": num_attention_heads[level],
                "cross_attention_dim": cross_attention_dim,
            }
            self.down_blocks[level] = ResnetCrossAttnDownBlock2D(
                in_channels=narrower, num_layers=layers_per_block, add_downsample=level < levels - 1, **common
            )
            self.up_blocks[levels - 1 - level] = ResnetCrossAttnUpBlock2D(
                in_channels=narrower,
                prev_output_channel=block_out_channels[min(level + 1, levels - 1)],
                num_layers=layers_per_block + 1,
                add_upsample=level > 0,
                resolution_idx=levels - 1 - level,
                **common,
            )
        for block in self.modules():
            if isinstance(block, BasicTransformerBlock) and not cross_attention:
                block.norm2 = block.attn2 = None
        self.set_default_attn_processor()

        self.static_proj = nn.Linear(static_dim, cross_attention_dim)
        self.dynamic_proj = nn.Linear(dynamic_dim, cross_attention_dim)
        self.modulation_proj = nn.Linear(2 * cross_attention_dim, temb_channels) if token_modulation else None
        if position_embedding:
            self.conv_in = PositionedConv2d(self.conv_in, side=sample_size // patch_size)
        if reference_frame:
            start_from_nothing(self, in_channels)
        self.null_static = nn.Parameter(torch.zeros(static_dim))
        self.null_dynamic = nn.Parameter(torch.zeros(dynamic_dim))

    def set_default_attn_processor(self) -> None:
        """
        The processors of a new model: [`PixelAttnProcessor`] within a frame, [`StaticDynamicAttnProcessor`] to its
        tokens.
        """
        self.set_attn_processor(
            {
                name: StaticDynamicAttnProcessor() if ".attn2." in name else PixelAttnProcessor()
                for name in self.attn_processors
            }
        )

    @reads_weights
    def context(
        self,
        static: torch.Tensor,
        dynamic: torch.Tensor,
        drop_static: torch.Tensor | None = None,
        drop_dynamic: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Projected tokens of every frame.

        Args:
            static (`torch.Tensor` of shape `(B, S)`), dynamic (`torch.Tensor` of shape `(B, N, D)`): the tokens.
            drop_static, drop_dynamic (`torch.BoolTensor` of shape `(B,)`): the clips whose token is replaced by the
                null token.

        Returns:
            `torch.Tensor` of shape `(B * N, 2, A)`, frames of a clip next to each other, static token first.
        """
        if static.ndim != 2 or dynamic.ndim != 3 or static.shape[0] != dynamic.shape[0]:
            raise ValueError(
                "The tokens must be static (batch, S) and dynamic (batch, frames, D) of one batch, but are "
                f"{tuple(static.shape)} and {tuple(dynamic.shape)}."
            )
        if static.shape[-1] != self.config.static_dim or dynamic.shape[-1] != self.config.dynamic_dim:
            raise ValueError(
                f"This decoder takes static tokens of width {self.config.static_dim} and dynamic tokens of width "
                f"{self.config.dynamic_dim}, but got {static.shape[-1]} and {dynamic.shape[-1]}: encode the clips "
                "with the "
                "encoder of the same checkpoint."
            )
        if drop_static is not None:
            static = torch.where(drop_static[:, None], self.null_static, static)
        if drop_dynamic is not None:
            dynamic = torch.where(drop_dynamic[:, None, None], self.null_dynamic, dynamic)
        static = repeat(self.static_proj(static), "b a -> b n a", n=dynamic.shape[1])
        tokens = torch.stack([static, self.dynamic_proj(dynamic)], dim=2)
        return rearrange(tokens, "b n two a -> (b n) two a")

    def cache_context(self, context: torch.Tensor) -> torch.Tensor | ContextCache:
        """
        A context `(frames, 2, A)` that keeps the keys and values which the cross-attention layers make of it: they do
        not depend on the noisy frame nor on the time, so a sampler computes them once, in its first step. Pass the
        result as `encoder_hidden_states`, to this UNet only. If somebody has installed attention processors of their
        own, the context comes back as it is.
        """
        layers = [module for name, module in self.named_modules() if name.endswith(".attn2")]
        if not all(isinstance(layer.processor, StaticDynamicAttnProcessor) for layer in layers):
            return context
        return ContextCache(context)

    def get_aug_embed(self, emb, encoder_hidden_states, added_cond_kwargs):
        """The parent adds what this returns to the time embedding."""
        if self.modulation_proj is None:
            return None
        cached = isinstance(encoder_hidden_states, ContextCache)
        context = encoder_hidden_states.context if cached else encoder_hidden_states
        return self.modulation_proj(context.flatten(1))

    @staticmethod
    def _shrinkage(timestep: torch.Tensor) -> torch.Tensor:
        """
        `exp(-1/2 int_0^t beta)` for betas from 1e-4 to 0.02 in 1000 steps: `sqrt(abar_t)` in the limit of many steps,
        within 5 % of it at every t (largest at t = 999), for whole and fractional t. Networks were trained with this
        very form.
        """
        t = timestep.float().reshape(-1, 1, 1, 1)
        return torch.exp(-0.5 * (1e-4 * t + 0.5 * (0.02 - 1e-4) / 1000 * t**2))

    @reads_weights
    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float | int,
        encoder_hidden_states: torch.Tensor | ContextCache | None = None,
        static: torch.Tensor | None = None,
        dynamic: torch.Tensor | None = None,
        drop_static: torch.Tensor | None = None,
        drop_dynamic: torch.Tensor | None = None,
        reference: torch.Tensor | None = None,
        hide_reference: torch.Tensor | None = None,
        return_dict: bool = True,
        **kwargs,
    ) -> UNet2DConditionOutput | tuple[torch.Tensor]:
        """
        Args:
            sample (`torch.Tensor` of shape `(B, N, C, H, W)` or `(frames, C, H, W)`): noisy frames.
            timestep (number, or `torch.Tensor` of shape `(B,)` or `(frames,)`): diffusion step, one per clip of a 5-D
                sample.
            encoder_hidden_states: the result of [`context`] or [`cache_context`]; or leave it out and pass
            static (`(B, S)`), dynamic (`(B, N, D)`): the tokens themselves, with `drop_static` and `drop_dynamic` as
                in [`context`].
            reference (`torch.Tensor` of shape `(B, C, H, W)` or `(frames, C, H, W)`, *optional*): the static frames,
                clean, in [-1, 1], where the config has `reference_frame`. Left out, the decoder knows the tokens
                alone.
            hide_reference (`torch.BoolTensor` of shape `(B,)` or `(frames,)`, *optional*): those that are not seen.

        Raises:
            ValueError: no tokens; a `reference` of another shape, or for a decoder that looks at none.

        Returns:
            [`UNet2DConditionOutput`] with `.sample` shaped like the input, or a tuple with it.
        """
        if encoder_hidden_states is None:
            if static is None or dynamic is None:
                raise ValueError(
                    "The decoder needs `static` and `dynamic` tokens, or `encoder_hidden_states` made of them."
                )
            encoder_hidden_states = self.context(static, dynamic, drop_static, drop_dynamic)

        is_clip, num_frames = sample.ndim == 5, 1
        if reference is not None:
            self._check_reference(reference, sample)
        if is_clip:
            batch, num_frames = sample.shape[:2]
            if torch.is_tensor(timestep) and timestep.ndim == 1 and timestep.shape[0] == batch:
                timestep = timestep.repeat_interleave(num_frames)
            sample = rearrange(sample, "b n c h w -> (b n) c h w")
        patch, noisy = self.config.patch_size, sample
        sample = F.pixel_unshuffle(sample, patch)
        if self.config.shrink_input:
            sample = sample * self._shrinkage(torch.as_tensor(timestep, device=sample.device)).to(sample.dtype)
        if self.config.reference_frame:
            seen = noisy.new_zeros(len(noisy)) if reference is None else noisy.new_ones(len(noisy))
            if hide_reference is not None:
                seen = seen * ~hide_reference.repeat_interleave(num_frames)
            reference = (
                torch.zeros_like(noisy) if reference is None else reference.repeat_interleave(num_frames, dim=0)
            )
            sample = beside(sample, reference, seen, patch)
        out = super().forward(sample, timestep, encoder_hidden_states, return_dict=False, **kwargs)[0]
        out = compose(out, reference, seen, patch) if self.config.reference_frame else F.pixel_shuffle(out, patch)
        if is_clip:
            out = rearrange(out, "(b n) c h w -> b n c h w", b=batch)
        return UNet2DConditionOutput(sample=out) if return_dict else (out,)

    def _check_reference(self, reference: torch.Tensor, sample: torch.Tensor) -> None:
        if not self.config.reference_frame:
            raise ValueError(
                "This decoder looks at no static frame (`reference_frame` is False): leave out `reference`."
            )
        if reference.shape != (len(sample), *sample.shape[-3:]):
            raise ValueError(
                f"`reference` must be one static frame for each of the first dimension of `sample`, "
                f"{(len(sample), *sample.shape[-3:])}, but is {tuple(reference.shape)}."
            )
