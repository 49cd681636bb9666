"""
The smallest thing that the loop trains: two weights, whose loss falls by a known slope, and a pipeline that is two
files.
"""

from pathlib import Path

import torch
from in_process import run_of_its_own
from PIL import Image
from tiny import SHORT_RUN
from train_baseline import parse_args
from trainer import loop, reporting
from trainer.card import write_baseline_card
from trainer.clips import open_clips
from trainer.start import start


class Weights(torch.nn.Module):
    def __init__(self, norm: bool = False):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        self.norm = torch.nn.BatchNorm2d(1) if norm else None

    def forward(self, clips):
        if self.norm is not None:
            self.norm(clips[:, 0, :1] * self.weight[0])
        return (self.weight.square().sum() * 1e-1 + clips.mean() * self.weight.sum() * 1e-3).reshape(())


class Pipeline:
    def __init__(self, module):
        self.state = module.state_dict()

    def save_pretrained(self, folder):
        torch.save(self.state, Path(folder) / "weights.pt")
        (Path(folder) / "model_index.json").write_text("{}")


class StandIn:
    name = "stand-in"

    def __init__(self, args, norm=False, loss=None):
        self.args, self.module, self.loss, self.steps = args, Weights(norm), loss, []

    def losses(self, module, clips, position):
        self.steps.append(position.step)
        loss = module(clips)
        return {"loss": self.loss(loss, position) if self.loss else loss}

    def pipeline(self, module):
        return Pipeline(module)

    def write_card(self, output_dir, facts):
        write_baseline_card(output_dir, self.args, facts)


def words(**flags):
    flags = SHORT_RUN | {"num_frames": 2, "perceptual_weight": 0} | flags
    return [
        f"--{name}" if value is True else f"--{name}={value}" for name, value in flags.items() if value is not None
    ]


def run(output_dir, norm=False, loss=None, **flags):
    """A run in this process; returns its recipe."""
    args = parse_args(words(output_dir=output_dir, **flags))
    with run_of_its_own():
        accelerator = start(args)
        train, held_out, _ = open_clips(args)
        recipe = StandIn(args, norm, loss)
        loop.train(accelerator, recipe, train, held_out, args)
    return recipe


def figures_without_a_model(monkeypatch, psnr=20.0):
    """Validation of what has nothing to decode."""
    measured = ({"psnr": psnr, "motion_error": 0.5}, Image.new("L", (4, 4)))
    monkeypatch.setattr(reporting, "validate", lambda pipeline, clips, seed: (dict(measured[0]), measured[1]))
