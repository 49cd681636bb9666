"""What a run says before its first step: what it learns from, on what, for how long, and where it can be watched."""

from pathlib import Path

from accelerate import Accelerator
from torch import nn
from torch.utils.data import ConcatDataset

from divid_diffusers.data.allowance import what_it_allows
from divid_diffusers.data.puppets import Puppets

from .card import device_name
from .length import PROBED
from .pictures import FIRST


PRECISIONS = {"no": "float32"}


def first_lines(accelerator: Accelerator, module: nn.Module, train_clips, held_out_clips, args) -> list[str]:
    parameters = sum(each.numel() for each in module.parameters()) / 1e6
    precision = PRECISIONS.get(accelerator.mixed_precision, accelerator.mixed_precision)
    batch = args.train_batch_size * args.gradient_accumulation_steps * accelerator.num_processes
    processes = "" if accelerator.num_processes == 1 else f", {accelerator.num_processes} processes"
    return [
        f"Learns from {learns_from(train_clips)}",
        f"Starts from {getattr(args, 'pretrained_model_name_or_path', None) or 'random weights'}.",
        f"Trains {parameters:.2f} M parameters on {device_name()} in {precision}{processes}; {batch} clips a step.",
        time(args),
        pictures(args, held_out_clips),
    ]


def learns_from(clips) -> str:
    if isinstance(clips, ConcatDataset):
        return " And from ".join(learns_from(each) for each in clips.datasets)
    if isinstance(clips, Puppets):
        return f"{len(clips):,} drawn clips, each of another person."
    return what_it_allows(len(clips), num_people(clips))


def num_people(clips) -> int | None:
    return len(clips.dataset.with_format(None).unique("identity")) if "identity" in clips.labels else None


def time(args) -> str:
    if args.max_train_minutes:
        steps = f", or {args.max_train_steps:,} steps if these are over before" if args.max_train_steps else ""
        return f"Takes {args.max_train_minutes:g} min{steps}."
    if args.max_train_steps is None:
        return f"How long it takes was not said: a length is proposed after {PROBED} steps."
    return f"Takes {args.max_train_steps:,} steps; how long these are is known after {PROBED}."


def pictures(args, held_out_clips) -> str:
    if args.validation_steps == 0:
        return "Draws no pictures on the way (--validation_steps 0)."
    when = (
        f"every {args.validation_steps:,} steps"
        if args.validation_steps
        else f"first after {FIRST} s, then ever rarer"
    )
    shown = min(args.num_validation_clips, len(held_out_clips))
    return f"Draws {shown} validation clips into {Path(args.output_dir) / 'validation'}, {when}."
