"""What the loop asks of that which is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from diffusers import DiffusionPipeline
from torch import nn


@dataclass
class BatchPosition:
    """Where in a run a batch is met: everything random in its loss is a function of this and of the seed."""

    step: int
    micro_batch: int
    rank: int
    world_size: int

    def seed(self, seed: int) -> int:
        """Of torch's own generator while this batch is met."""
        number = ((seed * 1_000_003 + self.step) * 1_009 + self.micro_batch) * 1_013 + self.rank
        return number % 2**32


class Recipe(Protocol):
    """
    What is trained. `module` holds everything with weights as one module, so that gradients are synchronised, clipped
    and averaged as one; `name` is that of the project with trackers.
    """

    name: str
    module: nn.Module

    def losses(self, module: nn.Module, clips: torch.Tensor, position: BatchPosition) -> dict[str, torch.Tensor]:
        """
        Of clips `(B, N, C, H, W)` in [-1, 1]: `loss`, which is minimised, and whatever else is to be logged, tensors
        of any number of samples (none included). `module` is the recipe's, as accelerate wraps it: call it, not its
        parts.
        """

    def pipeline(self, module: nn.Module) -> DiffusionPipeline:
        """What is validated, and saved at the end."""

    def write_card(self, output_dir: Path, facts: dict[str, str]) -> None:
        """The model card; `facts` are those of `card.run_facts`."""
