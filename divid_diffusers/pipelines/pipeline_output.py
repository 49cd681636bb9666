"""What the pipeline returns."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image


@dataclass
class DiViDPipelineOutput(BaseOutput):
    """
    Attributes:
        frames: the decoded clips, one entry per clip. `output_type="pil"`: lists of PIL images; `"np"`: array
            `(B, N, H, W, C)` in [0, 1]; `"pt"`: tensor `(B, N, C, H, W)` in [0, 1]; `"latent"`: the same as the
            network has it, around [-1, 1] and not clipped. Clips of different lengths come as a list with one array or
            tensor per clip.
    """

    frames: list[list[Image.Image]] | np.ndarray | list[np.ndarray] | torch.Tensor | list[torch.Tensor]
