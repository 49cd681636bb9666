"""Clips of different lengths as a batch: to tokens, in pairs, and out again."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image

from ..clips.processor import ClipProcessor
from ..models.sequence_encoder import DiViDTokens


def encode_clips(encode: Callable[[torch.Tensor], DiViDTokens], clips: Sequence[torch.Tensor]) -> DiViDTokens:
    """
    The tokens of clips `(N_b, C, H, W)`: `encode` is called once with `(B, N, C, H, W)` where all have one length,
    else once for each clip; `dynamic` is then a list of `(N_b, D)`.
    """
    if len({len(clip) for clip in clips}) == 1:
        return encode(torch.stack(list(clips)))
    tokens = [encode(clip[None]) for clip in clips]
    return DiViDTokens(
        static=torch.cat([each.static for each in tokens]), dynamic=[each.dynamic[0] for each in tokens]
    )


def pair_tokens(
    static: torch.Tensor, dynamic: torch.Tensor | list[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor | list[torch.Tensor]]:
    """As many static tokens as clips of dynamic tokens; a single one of either goes with all of the other."""
    num_static, num_dynamic = len(static), len(dynamic)
    if num_static == 1:
        return static.expand(num_dynamic, -1), dynamic
    if num_dynamic == 1:
        return static, [dynamic[0]] * num_static
    if num_static != num_dynamic:
        raise ValueError(
            f"Got {num_static} static and {num_dynamic} dynamic clips: pass as many of one as of the other, or one "
            "for all."
        )
    return static, dynamic


def to_output(
    processor: ClipProcessor, clips: Sequence[torch.Tensor], output_type: str
) -> list[list[Image.Image]] | np.ndarray | list[np.ndarray] | torch.Tensor | list[torch.Tensor]:
    """Decoded clips `(N_b, C, H, W)` in [-1, 1] as [`DiViDPipelineOutput`] has them."""
    one_length = len({len(clip) for clip in clips}) == 1
    if output_type == "latent":
        return torch.stack(list(clips)) if one_length else list(clips)
    if one_length:
        return processor.postprocess(torch.stack(list(clips)), output_type)
    return [processor.postprocess(clip[None], output_type)[0] for clip in clips]
