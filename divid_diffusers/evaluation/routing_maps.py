"""
Where identity is read: the weight each pixel gives to s against d_i, as an image over the frame.

A map shows one road of the tokens into the frame, cross-attention. With `token_modulation` both also come through the
time embedding, which no map shows; and a weight says how much of a token's value is taken, not how much that value
matters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch.nn import functional as F

from ..models.attention_processor import StaticDynamicAttnProcessor


ON_STATIC, ON_BOTH, ON_DYNAMIC = np.array([178, 24, 43]), np.array([247, 247, 247]), np.array([33, 102, 172])


class RecordingProcessor(StaticDynamicAttnProcessor):
    """
    Its parent, which also keeps a copy of every gate it computes, averaged over heads: `(frames, side, side)`, on the
    CPU.

    There is no attention matrix to read: over the two keys [s, d_i] the softmax is one sigmoid, and the parent
    computes that and nothing else. What is kept here is this very number, the one the output is made with.
    """

    def __init__(self, gates: list[torch.Tensor]):
        self.gates = gates

    def gate(self, query: torch.Tensor, key: torch.Tensor, scale: float) -> torch.Tensor:
        gate = super().gate(query, key, scale)
        mean = gate.detach().float().mean(dim=(2, 3))
        self.gates.append(mean.unflatten(1, (isqrt(mean.shape[1]), -1)).cpu())
        return gate


@contextmanager
def captured_gates(unet) -> Iterator[dict[str, list[torch.Tensor]]]:
    r"""
    Inside the `with`, every cross-attention layer of a [`DiViDUNet2DConditionModel`] notes the weight of the static
    token,

        g = exp(l_s) / (exp(l_s) + exp(l_d)) = sigmoid(l_s - l_d),    l = q . k / sqrt(c)

    and computes what it always computes. Afterwards, also after an exception, each has its own processor back, the
    same object. The UNet is changed meanwhile: let no other thread use it.

    Yields:
        `dict[str, list[torch.Tensor]]`: for each layer, by its name, one `(frames, side, side)` in [0, 1] per call of
        the UNet, averaged over heads; `frames` as many as that call had, with guidance those of every branch.

    Raises:
        ValueError: a layer has another processor, whose gate (if it has one) cannot be known.
    """
    layers = {name: module for name, module in unet.named_modules() if name.endswith(".attn2")}
    for name, layer in layers.items():
        if type(layer.processor) is not StaticDynamicAttnProcessor:
            raise ValueError(
                f"The gate of {name} cannot be captured: its processor is {type(layer.processor).__name__}, not "
                "StaticDynamicAttnProcessor. Put the UNet's own processors back, or leave the other capture first."
            )
    own = {name: layer.processor for name, layer in layers.items()}
    gates: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    try:
        for name, layer in layers.items():
            layer.set_processor(RecordingProcessor(gates[name]))
        yield gates
    finally:
        for name, layer in layers.items():
            layer.set_processor(own[name])


def routing_maps(
    pipe, static: torch.Tensor, dynamic: torch.Tensor | list[torch.Tensor], frames_per_batch: int = 64, **options
) -> tuple:
    """
    Decode tokens as `pipe(static, dynamic, **options)` does, bit for bit, and see where each pixel reads.

    Args:
        pipe ([`DiViDPipeline`]): its UNet is instrumented during the call.
        static (`torch.Tensor` of shape `(B, S)`), dynamic (`(B, N, D)`, or a list of `(N_b, D)`): tokens.
        frames_per_batch, options: as in [`DiViDPipeline.__call__`].

    Returns:
        The pipeline's output, and `dict[int, torch.Tensor]`: for each resolution with cross-attention, by the side of
        its feature map, the weight on s, `(steps, frames, H, W)` in [0, 1]; the weight on d_i is 1 minus that. The
        frames of all clips are laid end to end; a step is one evaluation of the UNet. Layers of one resolution, on the
        way down, in the middle and on the way up, are averaged, each counting the same; every number fills the block
        of pixels that it was computed for (both our choice). With guidance it is the branch that sees both tokens.

    Raises:
        ValueError: as [`captured_gates`] and the pipeline do.
    """
    with captured_gates(pipe.unet) as gates:
        output = pipe(static, dynamic, frames_per_batch=frames_per_batch, **options)
    num_frames = sum(len(clip) for clip in dynamic)
    pieces = [len(piece) for piece in torch.arange(num_frames).split(frames_per_batch)]
    by_resolution: dict[int, list[torch.Tensor]] = {}
    for calls in gates.values():
        weight = join_pieces(calls, pieces)
        by_resolution.setdefault(weight.shape[-1], []).append(weight)
    _, size = pipe.frame_shape
    return output, {
        side: F.interpolate(torch.stack(layers).mean(dim=0), size=(size, size), mode="nearest")
        for side, layers in sorted(by_resolution.items(), reverse=True)
    }


def join_pieces(calls: list[torch.Tensor], pieces: list[int]) -> torch.Tensor:
    """
    One layer's gates as `(steps, frames, side, side)`. The pipeline takes the pieces of the video one after the other,
    each through all its steps, and puts the branch with both tokens first in the batch.
    """
    steps = len(calls) // len(pieces)
    return torch.cat(
        [
            torch.stack([gate[:length] for gate in calls[number * steps : (number + 1) * steps]])
            for number, length in enumerate(pieces)
        ],
        dim=1,
    )


def colour_map(weight: torch.Tensor) -> Image.Image:
    """Red where a pixel reads s, blue where it reads d, white where it reads both alike; weight `(H, W)` in [0, 1]."""
    share = weight.cpu().numpy()[..., None]
    towards_static, towards_dynamic = (2 * share - 1).clip(0, 1), (1 - 2 * share).clip(0, 1)
    colour = ON_BOTH + towards_static * (ON_STATIC - ON_BOTH) + towards_dynamic * (ON_DYNAMIC - ON_BOTH)
    return Image.fromarray(colour.round().astype(np.uint8))


def routing_strip(frame: Image.Image, weights: torch.Tensor, steps: list[int]) -> Image.Image:
    """
    One row per step: the decoded frame, the map of that step, and the map laid over the frame.

    Args:
        frame (`PIL.Image.Image`): one decoded frame, grey or RGB.
        weights (`torch.Tensor` of shape `(steps, H, W)`): its maps, `maps[resolution][:, i]` of [`routing_maps`].
        steps (`list[int]`): the steps to show, 0 being the first, at full noise.

    Returns:
        `PIL.Image.Image` of size `(3 W, len(steps) H)`, RGB.

    Raises:
        ValueError: maps of another size than the frame, or a step that was not taken.
    """
    if weights.ndim != 3 or (frame.height, frame.width) != tuple(weights.shape[1:]):
        raise ValueError(
            f"The maps must be (steps, {frame.height}, {frame.width}) like the frame, but are {tuple(weights.shape)}: "
            "pass those "
            "of one resolution and one frame, `maps[resolution][:, i]`."
        )
    if not steps or not all(0 <= step < len(weights) for step in steps):
        raise ValueError(f"`steps` is {steps}: choose from 0 to {len(weights) - 1}, the steps that were taken.")
    frame = frame.convert("RGB")
    maps = [colour_map(weights[step]) for step in steps]
    rows = np.stack([[frame, image, Image.blend(frame, image, 0.5)] for image in maps])
    return Image.fromarray(rearrange(rows, "steps three h w c -> (steps h) (three w) c"))
