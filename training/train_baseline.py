"""
Train a baseline, DBSE or SPYL, on the same clips, with the same budget, checkpoints and figures as train_divid.py.

    accelerate launch training/train_baseline.py --config training/configs/dbse_mhad_depth.yaml \\
        --dataset data/mhad-depth
"""

import argparse
from pathlib import Path

import torch
from accelerate.logging import get_logger
from torch import nn
from trainer import loop
from trainer.card import write_baseline_card
from trainer.clips import open_clips
from trainer.flags import add_data_flags, add_optimisation_flags, add_output_flags, new_parser, parse
from trainer.recipe import BatchPosition
from trainer.start import start

from divid_diffusers import PRESETS, SequentialVAEPipeline
from divid_diffusers.models.frame_coders import FORMS
from divid_diffusers.models.perceptual import VGGPerceptualDistance
from divid_diffusers.models.sequential_vae import SequentialVAE
from divid_diffusers.models.spyl import SPYL, NegativePool
from divid_diffusers.presets import METHODS, build_baseline
from divid_diffusers.training.augment import recolour, stretch


logger = get_logger(__name__)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser("a baseline, DBSE or SPYL")
    model = parser.add_argument_group("model")
    model.add_argument("--method", default="dbse", choices=METHODS)
    model.add_argument(
        "--form",
        default="divid",
        choices=FORMS,
        help="divid: DiViD's image encoder and its mirror image, as the DiViD paper compares. published: the method's "
        "own size "
        "and loss.",
    )
    model.add_argument("--preset", default="tiny", choices=sorted(PRESETS), help="Width of DiViD's image encoder.")
    model.add_argument(
        "--pixel_shortcut",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="As in train_divid.py: show the image embedding the frame itself. Off in the paper.",
    )
    add_data_flags(parser)
    loss = parser.add_argument_group("loss")
    loss.add_argument(
        "--perceptual_weight",
        type=float,
        default=10.0,
        help="Of the VGG features' distance in the divid form; 0 does without torchvision and the weights of VGG.",
    )
    loss.add_argument(
        "--contrast_from_epoch",
        type=float,
        default=50.0,
        help="Passes over the clips before SPYL's contrastive terms come in: 50 of 1,000 as published.",
    )
    loss.add_argument(
        "--dynamic_recolour",
        type=float,
        default=0.0,
        help="As in train_divid.py: read d from the clip in colours changed by so much. Off as published.",
    )
    loss.add_argument(
        "--dynamic_stretch",
        type=float,
        default=0.0,
        help="As in train_divid.py: read d from the clip stretched by so much. Off as published.",
    )
    add_optimisation_flags(parser)
    add_output_flags(parser, "outputs/baseline")
    args = parse(parser, argv)
    if args.form == "published" and args.gradient_checkpointing:
        parser.error("--gradient_checkpointing: the published form has no blocks to recompute, so leave it out.")
    if args.form == "published" and args.pixel_shortcut:
        parser.error("--pixel_shortcut is a part of DiViD's image encoder, which the published form does not have.")
    return args


class TrainingModule(nn.Module):
    """
    The model's loss as its forward pass, which is what accelerate wraps; and SPYL's pool of negatives, which lasts
    from step to step but is no part of what is saved as the model.
    """

    def __init__(self, model: SequentialVAE):
        super().__init__()
        self.model = model
        widths = model.config.static_dim, model.config.dynamic_dim
        self.pool = NegativePool(*widths) if isinstance(model, SPYL) else None

    def forward(self, clips: torch.Tensor, noise: dict[str, torch.Tensor], **kwargs) -> dict[str, torch.Tensor]:
        if kwargs.get("contrast"):
            training = self.training and torch.is_grad_enabled()  # and not one more look at a batch
            kwargs["pool"] = self.pool.renew(*self.model.draw_pool(noise), keep=training)
        return self.model.loss(clips, noise, **kwargs)


class BaselineRecipe:
    """A `trainer.recipe.Recipe`."""

    name = "divid-baselines"

    def __init__(self, model: SequentialVAE, num_train_clips: int, device: torch.device, args):
        self.module, self.num_train_clips, self.args = TrainingModule(model), num_train_clips, args
        self.options = {}
        if args.form == "divid" and args.perceptual_weight:
            self.options["perceptual"] = VGGPerceptualDistance().to(device)
            self.options["perceptual_weight"] = args.perceptual_weight

    def losses(self, module: nn.Module, clips: torch.Tensor, position: BatchPosition) -> dict[str, torch.Tensor]:
        noise = {name: draw.to(clips.device) for name, draw in self.noise(position).items()}
        colour, shade, factors = (noise.pop(name) for name in ("colour", "shade", "stretch"))
        options = self.options
        if self.args.dynamic_recolour or self.args.dynamic_stretch:
            options = options | {"dynamic_clips": stretch(recolour(clips, colour, shade), factors)}
        if self.args.method == "spyl":
            options = options | {"num_train_clips": self.num_train_clips, "contrast": self.contrasts(position)}
        return module(clips, noise, **options)

    def noise(self, position: BatchPosition) -> dict[str, torch.Tensor]:
        """
        Drawn for the whole batch of all processes and then cut, as `step_noise.draw` does, and by its rules.
        """
        args = self.args
        number = position.step * args.gradient_accumulation_steps + position.micro_batch
        generator = torch.Generator().manual_seed((args.seed * 1_000_003 + number) % 2**32)
        total = args.train_batch_size * position.world_size
        noise = self.module.model.draw_noise(total, args.num_frames, generator)
        channels = self.module.model.config.in_channels
        colour, shade, factors = (
            torch.randn(total, *shape, generator=generator) for shape in ((channels, channels), (channels,), (2,))
        )
        noise["colour"] = torch.eye(channels) + args.dynamic_recolour * colour
        noise["shade"] = 0.3 * args.dynamic_recolour * shade
        noise["stretch"] = (1 + args.dynamic_stretch * factors).clamp(0.5, 2)
        mine = slice(position.rank * args.train_batch_size, (position.rank + 1) * args.train_batch_size)
        return {name: draw[mine] for name, draw in noise.items()}

    def contrasts(self, position: BatchPosition) -> bool:
        args = self.args
        clips_per_step = args.train_batch_size * args.gradient_accumulation_steps * position.world_size
        return position.step * clips_per_step >= args.contrast_from_epoch * self.num_train_clips

    def pipeline(self, module: TrainingModule) -> SequentialVAEPipeline:
        return SequentialVAEPipeline(module.model)

    def write_card(self, output_dir: Path, facts: dict[str, str]) -> None:
        write_baseline_card(output_dir, self.args, facts)


def main(args) -> None:
    accelerator = start(args)
    train_clips, held_out_clips, (channels, size) = open_clips(args)
    shortcut = {"pixel_shortcut": True} if args.pixel_shortcut else {}
    try:
        model = build_baseline(args.method, args.form, args.preset, channels, size, **shortcut)
        recipe = BaselineRecipe(model, len(train_clips), accelerator.device, args)
    except (ImportError, OSError, ValueError) as error:  # frames that the form does not take; no VGG
        raise SystemExit(str(error)) from error
    if accelerator.num_processes > 1 and (args.method == "spyl" or args.form == "published"):
        logger.warning(
            "SPYL's contrast and BatchNorm see each process's own batch, so this run differs from one of one process."
        )
    if args.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    loop.train(accelerator, recipe, train_clips, held_out_clips, args)


if __name__ == "__main__":
    main(parse_args())
