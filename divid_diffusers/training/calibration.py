"""A start at which both tokens matter."""

import torch
from torch import nn

from ..models.sequence_encoder import DiViDSequenceEncoder


@torch.no_grad()
def calibrate(encoder: DiViDSequenceEncoder, clips: torch.Tensor) -> None:
    """
    Rescale the layers that make the tokens so that, over `clips` `(B, N, C, H, W)`, each of their outputs starts with
    mean 0 and variance 1 (LSUV's idea, Mishkin and Matas 2016; our choice, off in the paper).

    With torch's default initialisation the static token of different clips differs by a hundredth, against a half for
    the dynamic token, which leaves a LayerNorm. The decoder then cannot see s, and long learns nothing from it.
    """

    def standardise(layer: nn.Linear, inputs: torch.Tensor) -> torch.Tensor:
        outputs = layer(inputs).flatten(0, -2)
        mean, std = outputs.mean(dim=0), outputs.std(dim=0).clamp(min=1e-6)
        layer.weight.div_(std[:, None])
        layer.bias.sub_(mean).div_(std)
        return layer(inputs)

    read = clips[:, :1] if encoder.config.static_source == "first" else clips
    hidden = encoder.encode_frames(read).mean(dim=1)
    for layer in encoder.static_encoder:
        hidden = standardise(layer, hidden) if isinstance(layer, nn.Linear) else layer(hidden)
    captured = []
    handle = encoder.dynamic_proj.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    encoder(clips)
    handle.remove()
    standardise(encoder.dynamic_proj, captured[0])
