"""The perceptual distance of the paper's baselines: features of a VGG that was trained to classify ImageNet."""

import torch
from torch import nn


# After the last ReLU of each of VGG-16's first four blocks: relu1_2, relu2_2, relu3_3, relu4_3.
LAYERS = (3, 8, 15, 22)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGGPerceptualDistance(nn.Module):
    r"""
    `(1/4) sum_l mean |phi_l(x) - phi_l(x')|` for each frame, with `phi_l` the features of VGG-16's block `l`. Frozen;
    gradients pass through it to its input. Source: Gheisari and Genovesio 2025, arXiv:2507.13934, experiments:
    "features of a pre-trained VGG"; which layers, and the absolute difference, are our choice.

    Raises:
        ImportError: torchvision is not installed, or does not fit the torch that is.
        OSError: the weights are not on this machine and could not be downloaded.
    """

    def __init__(self):
        super().__init__()
        self.features = load_vgg16_features()[: LAYERS[-1] + 1].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def forward(self, frames: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Distances `(F,)` of frames `(F, C, H, W)` in [-1, 1], grey (C = 1) or RGB."""
        hidden = torch.cat([frames, targets]).float() / 2 + 0.5
        hidden = (hidden.expand(-1, 3, -1, -1) - self.mean) / self.std
        distance = 0.0
        for index, layer in enumerate(self.features):
            hidden = layer(hidden)
            if index in LAYERS:
                ours, theirs = hidden.chunk(2)
                distance = distance + (ours - theirs).abs().mean(dim=(1, 2, 3)) / len(LAYERS)
        return distance


def load_vgg16_features() -> nn.Sequential:
    """The convolutional part of torchvision's VGG-16 with its ImageNet weights."""
    try:
        from torchvision.models import VGG16_Weights, vgg16
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise ImportError(
            f"The perceptual loss needs torchvision, which cannot be imported ({error}): install the torchvision that "
            "was built "
            "for this torch (see pytorch.org), or pass --perceptual_weight 0."
        ) from error
    try:
        return vgg16(weights=VGG16_Weights.IMAGENET1K_V1).features
    except (OSError, RuntimeError) as error:  # no network; or a download cut short, which torch calls a wrong hash
        raise OSError(
            f"The perceptual loss needs the ImageNet weights of VGG-16, which could not be downloaded ({error}): put "
            f"vgg16-397923af.pth into {torch.hub.get_dir()}/checkpoints, or pass --perceptual_weight 0."
        ) from error
