"""
What a run says of itself on the way: mean losses, figures and pictures of held-out clips, to its folder and to
trackers.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from diffusers import DiffusionPipeline
from diffusers.training_utils import EMAModel
from torch import nn

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


@contextmanager
def averaged(ema: EMAModel, module: nn.Module, settle: Callable[[nn.Module], None]) -> Iterator[nn.Module]:
    """
    Within it the module has its averaged weights, statistics that `settle` measured with them, and is in evaluation
    mode.
    """
    buffers = [buffer.clone() for buffer in module.buffers()]
    ema.store(module.parameters())
    ema.copy_to(module.parameters())
    try:
        settle(module)
        module.eval()
        yield module
    finally:
        module.train()
        ema.restore(module.parameters())
        for buffer, before in zip(module.buffers(), buffers):
            buffer.copy_(before)


def report_validation(
    accelerator: Accelerator, pipeline: DiffusionPipeline, clips: torch.Tensor, args, step: int
) -> dict[str, float]:
    """
    Figures and a picture, to the folder `validation` and to the trackers. Returns the figures, `step` and number of
    `clips`.
    """
    figures, picture = validate(pipeline, clips, args.seed)
    measured = {"step": step, "clips": len(clips)} | figures
    folder = Path(args.output_dir) / "validation"
    folder.mkdir(exist_ok=True)
    picture.save(folder / f"step-{step:06d}.png")
    with open(folder / "figures.jsonl", "a") as file:
        file.write(json.dumps(measured) + "\n")
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
    return measured


def forget_later(output_dir: Path, step: int) -> dict[str, float]:
    """
    Validations after `step`, from where a run goes on, and lines that a killed run left half-written, are not those of
    this run. Returns the figures of the step itself, if there are any.
    """
    folder = output_dir / "validation"
    for path in folder.glob("step-*.png"):
        number = path.stem.removeprefix("step-")
        if number.isdigit() and int(number) > step:
            path.unlink()
    file = folder / "figures.jsonl"
    if file.is_file():
        kept = [each for each in read_figures(file) if each["step"] <= step]
        file.with_suffix(".partial").write_text("".join(json.dumps(each) + "\n" for each in kept))
        file.with_suffix(".partial").replace(file)
        return next((each for each in reversed(kept) if each["step"] == step), {})
    return {}


def read_figures(file: Path) -> list[dict]:
    """The whole lines of a `figures.jsonl`."""
    figures = []
    for line in file.read_text().splitlines():
        try:
            each = json.loads(line)
            figures += [each] if isinstance(each["step"], int) else []
        except (ValueError, KeyError, TypeError):
            continue
    return figures
