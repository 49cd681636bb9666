"""
The sequence encoder: a clip becomes one static token and one dynamic token per frame (Gheisari and Genovesio 2025,
arXiv:2507.13934).
"""

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from .attention_processor import attend
from .image_encoder import ImageEncoder
from .modeling_utils import StrictLoadingMixin
from .offloading import reads_weights


FIRST_FRAME_TOKENS = ("context", "null")
STATIC_SOURCES = ("first", "all")


@dataclass
class DiViDTokens(BaseOutput):
    """
    What a clip is factored into.

    Attributes:
        static (`torch.Tensor` of shape `(B, S)`): who or what is seen, one token per clip.
        dynamic (`torch.Tensor` of shape `(B, N, D)`, or a list of `B` tensors `(N_b, D)` where the pipeline was given
            clips of different lengths): how it moves, one token per frame.
        reference (`torch.Tensor` of shape `(B, C, H, W)`, *optional*): the static frame itself, from the pipeline,
            where the decoder looks at it (`reference_frame` in its config).
    """

    # Accelerate rebuilds outputs without arguments under mixed precision, hence the defaults.
    static: torch.Tensor | None = None
    dynamic: torch.Tensor | list[torch.Tensor] | None = None
    reference: torch.Tensor | None = None


class FrameAttention(nn.MultiheadAttention):
    """
    Self-attention over `(B, N, E)`. It calls its output layer, whose weights the parent reads without: see
    [`reads_weights`].
    """

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        projected = F.linear(hidden, self.in_proj_weight, self.in_proj_bias)
        query, key, value = rearrange(projected, "b n (three h c) -> three b h n c", three=3, h=self.num_heads)
        attended = attend(query, key, value)
        return self.out_proj(rearrange(attended, "b h n c -> b n (h c)"))


class DiViDSequenceEncoder(StrictLoadingMixin, ModelMixin, ConfigMixin):
    r"""
    Frames to tokens. With `z_i` the image embedding of frame `i` and `z_1` that of the static frame,

        s           = W_s MLP(z_1)
        r_i         = z_i - z_1
        d_1 .. d_N  = W_d LayerNorm(h + SelfAttention(h)),    h = biLSTM(r_1 .. r_N)

    The subtraction removes what all frames share before motion is encoded. It also removes the absolute pose of the
    static frame: `d` describes motion *relative to that frame*, and a swap shows it from the static donor's pose. With
    `residual=False`, r_i = z_i and `d` tells the pose itself. Source: the paper's "sequence encoder"; what it leaves
    open is a field below, marked "our choice".

    ```python
    import torch

    from divid_diffusers import build_models

    encoder, unet = build_models("tiny")
    tokens = encoder(torch.rand(2, 10, 3, 64, 64) * 2 - 1)  # frames in [-1, 1]
    tokens.static.shape, tokens.dynamic.shape  # (2, 64), (2, 10, 64)
    ```

    Args:
        sample_size (`int`): height and width of a frame in pixels.
        in_channels (`int`): 3 for RGB, 1 for grey or depth.
        patch_size (`int`): side of the pixel blocks folded into channels before the first convolution; 1 in the paper.
        block_out_channels (`tuple[int]`): width of each resolution level of the image encoder; between two levels the
            resolution halves. Paper: base width 128, three levels; multipliers (1, 2, 4) are latent diffusion's f4
            encoder.
        layers_per_block (`int`): residual blocks per level.
        mid_block_add_attention (`bool`): self-attention at the lowest resolution, as in latent diffusion (our choice).
        latent_channels (`int`): channels of the image embedding, after the 1x1 convolution.
        norm_num_groups (`int`): groups of the image encoder's GroupNorm.
        pixel_shortcut (`bool`): the 1x1 convolution also sees the frame itself, averaged down to the embedding's
            resolution. Off in the paper; GroupNorm hides absolute colour, which is much of an identity.
        static_hidden_dim (`int`): hidden width of the two-layer static MLP.
        static_dim, dynamic_dim (`int`): S and D. Equal in the paper, whose orthogonality term compares s with d_i.
        lstm_hidden_dim (`int`): width per direction of the LSTM; the attention works on twice that (our choice: one
            layer of 128, so that attention has the paper's 256).
        num_attention_heads (`int`): heads of the self-attention over frames.
        first_frame (`str`): the token of the static frame, whose residual is zero. `"context"`: it goes through LSTM
            and attention like any other. `"null"`: a learned token that does not depend on the clip. Our choice: the
            paper does not say.
        static_source (`str`): `"first"`: s is read from the static frame alone, as in the paper. `"all"`: from the
            mean of all frames' embeddings, which has seen the motion.
        residual (`bool`): r_i = z_i - z_1, the paper's form. Without it, r_i = z_i (our choice): nothing but the
            augmentation of the clip that d is read from then keeps looks out of d.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ResnetBlock2D", "Attention", "FrameAttention"]

    @register_to_config
    def __init__(
        self,
        sample_size: int = 64,
        in_channels: int = 3,
        patch_size: int = 1,
        block_out_channels: tuple[int, ...] = (128, 256, 512),
        layers_per_block: int = 2,
        mid_block_add_attention: bool = True,
        latent_channels: int = 3,
        norm_num_groups: int = 32,
        pixel_shortcut: bool = False,
        static_hidden_dim: int = 1024,
        static_dim: int = 256,
        dynamic_dim: int = 256,
        lstm_hidden_dim: int = 128,
        num_attention_heads: int = 8,
        first_frame: str = "context",
        residual: bool = True,
        static_source: str = "first",
    ):
        super().__init__()
        reduction = patch_size * 2 ** (len(block_out_channels) - 1)
        if sample_size % reduction:
            raise ValueError(
                f"`sample_size` ({sample_size}) must be a multiple of patch_size * 2^(levels - 1) = {reduction}: "
                "change "
                "`sample_size`, `patch_size` or the number of `block_out_channels`."
            )
        if first_frame not in FIRST_FRAME_TOKENS:
            raise ValueError(f"`first_frame` is {first_frame!r}; choose one of {', '.join(FIRST_FRAME_TOKENS)}.")
        if static_source not in STATIC_SOURCES:
            raise ValueError(f"`static_source` is {static_source!r}; choose one of {', '.join(STATIC_SOURCES)}.")
        if not residual and first_frame != "context":
            raise ValueError(
                f"`first_frame` is {first_frame!r}, which replaces the residual that is zero, but with "
                "`residual=False` there are none: "
                "choose 'context'."
            )

        self.image_encoder = ImageEncoder(
            in_channels,
            patch_size,
            latent_channels,
            pixel_shortcut,
            attention=mid_block_add_attention,
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
        )

        embedding_dim = latent_channels * (sample_size // reduction) ** 2
        self.static_encoder = nn.Sequential(
            nn.Linear(embedding_dim, static_hidden_dim),
            nn.ReLU(),
            nn.Linear(static_hidden_dim, static_hidden_dim),
            nn.ReLU(),
            nn.Linear(static_hidden_dim, static_dim),
        )

        attention_dim = 2 * lstm_hidden_dim
        self.lstm = nn.LSTM(embedding_dim, lstm_hidden_dim, batch_first=True, bidirectional=True)
        self.attention = FrameAttention(attention_dim, num_attention_heads)
        self.norm = nn.LayerNorm(attention_dim)
        self.dynamic_proj = nn.Linear(attention_dim, dynamic_dim)
        if first_frame == "null":
            self.first_token = nn.Parameter(torch.randn(dynamic_dim) * dynamic_dim**-0.5)

    @reads_weights
    def encode_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """Image embeddings `z` of shape `(B, N, E)` of frames `(B, N, C, H, W)` in [-1, 1]; every frame on its own."""
        self._check_frames(frames)
        batch = frames.shape[0]
        embeddings = self.image_encoder(rearrange(frames, "b n c h w -> (b n) c h w"))
        return rearrange(embeddings, "(b n) e -> b n e", b=batch)

    @reads_weights
    def encode_static(self, embedding: torch.Tensor) -> torch.Tensor:
        """The static token `(B, S)` of one frame's embedding `(B, E)`."""
        return self.static_encoder(embedding)

    @reads_weights
    def encode_dynamic(self, embeddings: torch.Tensor, static_frame: int = 0) -> torch.Tensor:
        """
        Dynamic tokens `(B, N, D)` of embeddings `(B, N, E)`, relative to the frame `static_frame`, as in [`forward`],
        where the config says so.
        """
        static_frame = frame_index(static_frame, embeddings.shape[1])
        residuals = embeddings
        if self.config.residual:
            residuals = embeddings - embeddings[:, static_frame : static_frame + 1]
        hidden, _ = self.lstm(residuals)
        dynamic = self.dynamic_proj(self.norm(hidden + self.attention(hidden)))
        if self.config.first_frame == "null":
            is_static = torch.arange(dynamic.shape[1], device=dynamic.device) == static_frame
            dynamic = torch.where(is_static[None, :, None], self.first_token.to(dynamic.dtype), dynamic)
        return dynamic

    @reads_weights
    def forward(
        self,
        frames: torch.Tensor,
        static_frame: int = 0,
        dynamic_frames: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> DiViDTokens | tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            frames (`torch.Tensor` of shape `(B, N, C, H, W)`): a batch of clips, values in [-1, 1], any N >= 1.
            static_frame (`int`): the frame that gives s and that is subtracted from the others; the paper's is the
                first.
            dynamic_frames (`torch.Tensor` of shape `(B, M, C, H, W)`, any M > `static_frame`): the clip d is read
                from, where it is not `frames` itself: training may pass a recoloured copy so that colour cannot travel
                through d (our choice, off by default).
            return_dict (`bool`): a [`DiViDTokens`], or the tuple `(static, dynamic)`.

        Raises:
            ValueError: frames of another shape or channel count than the config's, or `static_frame` out of range.
        """
        self._check_frames(frames)
        static_frame = frame_index(static_frame, frames.shape[1])
        read = slice(static_frame, static_frame + 1) if self.config.static_source == "first" else slice(None)
        if dynamic_frames is None:
            embeddings = self.encode_frames(frames)
            static_embeddings = embeddings[:, read]
        else:
            # the static frames ride along: one pass over all costs less than a second one over a few
            self._check_frames(dynamic_frames)
            both = torch.cat([dynamic_frames, frames[:, read]], dim=1)
            embeddings, static_embeddings = self.encode_frames(both).tensor_split([dynamic_frames.shape[1]], dim=1)
        static = self.encode_static(static_embeddings.mean(dim=1))
        dynamic = self.encode_dynamic(embeddings, static_frame)
        if not return_dict:
            return static, dynamic
        return DiViDTokens(static=static, dynamic=dynamic)

    def _check_frames(self, frames: torch.Tensor) -> None:
        size, channels = self.config.sample_size, self.config.in_channels
        if frames.ndim != 5 or frames.shape[1] == 0 or frames.shape[2:] != (channels, size, size):
            raise ValueError(
                f"The encoder takes frames of shape (batch, frames, {channels}, {size}, {size}) with at least one "
                "frame, "
                f"but got {tuple(frames.shape)}: resize the clip, or load a checkpoint made for it."
            )


def frame_index(static_frame: int, num_frames: int) -> int:
    """The frame counted from the first; -1 is the last. Raises ValueError for a frame that the clip does not have."""
    if not hasattr(static_frame, "__index__") or not -num_frames <= static_frame < num_frames:
        raise ValueError(
            f"`static_frame` is {static_frame}, but the clip has {num_frames} frames: choose 0 to {num_frames - 1}."
        )
    return static_frame % num_frames
