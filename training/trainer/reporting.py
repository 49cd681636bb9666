"""What a run says of itself on the way: mean losses, figures and pictures of held-out clips, to its folder and to trackers."""

import json
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from diffusers.training_utils import EMAModel
from torch import nn

from .recipe import Recipe
from .validation import validate


logger = get_logger(__name__)


class Meter:
    """Means of the losses since the last log, over all processes."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.totals: dict[str, torch.Tensor] = {}

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        for name, value in losses.items():
            count = torch.tensor(value.numel(), device=value.device, dtype=torch.float32)
            total = torch.stack([value.detach().float().sum(), count])
            self.totals[name] = self.totals[name] + total if name in self.totals else total

    def result(self) -> dict[str, float]:
        sums = self.accelerator.reduce(torch.stack(list(self.totals.values())), "sum").tolist()
        means = {name: total / count for name, (total, count) in zip(self.totals, sums) if count > 0}
        self.totals = {}
        return means


def report_validation(
    accelerator: Accelerator, recipe: Recipe, ema: EMAModel, model: nn.Module, clips: torch.Tensor, args, step: int
) -> dict[str, float]:
    """Figures and a picture of the averaged weights, to the folder `validation` and to the trackers."""
    module = accelerator.unwrap_model(model)
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    module.eval()
    figures, picture = validate(recipe.pipeline(module), clips, args.seed)
    module.train()
    ema.restore(model.parameters())

    folder = Path(args.output_dir) / "validation"
    folder.mkdir(exist_ok=True)
    picture.save(folder / f"step-{step:06d}.png")
    with open(folder / "figures.jsonl", "a") as file:
        file.write(json.dumps({"step": step, **figures}) + "\n")
    accelerator.log({f"validation/{name}": value for name, value in figures.items()}, step=step)
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            image = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
            tracker.log_images(
                {"validation": image.view(1, picture.height, picture.width, 3)}, step, dataformats="NHWC"
            )
        elif tracker.name == "wandb":
            import wandb

            tracker.log({"validation": wandb.Image(picture)}, step=step)
    logger.info(f"Step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    return figures
