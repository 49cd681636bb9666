"""Going on from a checkpoint: with the flags it was written with, but for those that may change."""

import argparse
import json
import sys
from pathlib import Path

from accelerate import Accelerator
from accelerate.logging import get_logger
from diffusers.training_utils import EMAModel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from . import checkpoints
from .progress import Progress


logger = get_logger(__name__)

# Of the machine and the folder, not of the run: neither inherited nor compared.
OF_THE_MACHINE = (
    "config",
    "output_dir",
    "logging_dir",
    "resume_from_checkpoint",
    "cache_latents",
    "push_to_hub",
    "hub_model_id",
)
# What a run may change on the way; everything else decides what is trained, on which clips and draws.
MAY_CHANGE = (
    "learning_rate",
    "lr_scheduler",
    "lr_warmup_steps",
    "max_train_steps",
    "max_train_minutes",
    "adam_beta1",
    "adam_beta2",
    "adam_weight_decay",
    "max_grad_norm",
    "ema_max_decay",
    "mixed_precision",
    "gradient_checkpointing",
    "dataloader_num_workers",
    "logging_steps",
    "report_to",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "validation_steps",
    "num_validation_clips",
    "num_inference_steps",
    "license",
)
# Compared by what they come to, once that is known: the clips themselves, and the batch of all processes.
COMPARED_LATER = ("dataset", "train_batch_size")


def read_flags(checkpoint: Path, output_dir: Path) -> dict:
    """
    What the checkpoint says of its run, empty if an older version wrote it. Stops, naming an older whole one, if it is
    damaged.
    """
    checkpoints.refuse_damaged(checkpoint, output_dir)
    file = checkpoint / checkpoints.MANIFEST
    if not file.is_file():
        logger.warning(
            f"{checkpoint} was written by an older version, without its run's flags: they are not compared."
        )
        return {}
    return json.loads(file.read_text())


def refuse_changes(parser: argparse.ArgumentParser, args: argparse.Namespace, saved: dict) -> None:
    flags = saved.get("flags", {})
    script = Path(sys.argv[0]).name
    if saved.get("trainer", script) != script:
        parser.error(f"{args.checkpoint} was written by {saved['trainer']}, and this is {script}.")
    changed = [
        f"--{name} was {old} and is {getattr(args, name)}"
        for name, old in flags.items()
        if name not in (*OF_THE_MACHINE, *MAY_CHANGE, *COMPARED_LATER) and getattr(args, name, old) != old
    ]
    if flags.get("mixed_precision") != args.mixed_precision and "fp16" in (
        flags.get("mixed_precision"),
        args.mixed_precision,
    ):
        # its loss scale is part of a checkpoint's state
        changed.append(f"--mixed_precision was {flags.get('mixed_precision')} and is {args.mixed_precision}")
    if changed:
        parser.error(
            f"{args.checkpoint.name} is of a run with other flags: {'; '.join(changed)}. Go on with what they were, "
            "or start anew in "
            "another --output_dir."
        )


def refuse_other_clips(args: argparse.Namespace, clips: str, processes: int) -> None:
    """
    `clips` is the fingerprint of those that were opened. A set may have moved, and processes may share a batch in
    another way.
    """
    if args.checkpoint is None or not (args.checkpoint / checkpoints.MANIFEST).is_file():
        return
    saved = json.loads((args.checkpoint / checkpoints.MANIFEST).read_text())
    if saved.get("clips") not in (None, clips):
        raise SystemExit(
            f"{args.checkpoint.name} is of a run on other clips: --dataset was {saved['flags'].get('dataset')} and is "
            f"{args.dataset}, "
            "and they do not hold the same. Give the set it was, or start anew in another --output_dir."
        )
    before = saved.get("flags", {}).get("train_batch_size", args.train_batch_size) * saved.get("processes", processes)
    if before != args.train_batch_size * processes:
        raise SystemExit(
            f"{args.checkpoint.name} is of a run with other flags: --train_batch_size, of all processes together, was "
            f"{before} and is "
            f"{args.train_batch_size * processes}. Go on with what it was, or start anew in another --output_dir."
        )


def resume(
    accelerator: Accelerator, args, progress: Progress, optimizer: Optimizer, lr_scheduler: LambdaLR, ema: EMAModel
) -> None:
    """Load the state, and let the flags of this run, not those of the checkpoint, say how it goes on."""
    if args.checkpoint is None:
        logger.info(f"No checkpoint in {args.output_dir} yet: training starts at step 0.")
        return
    try:
        accelerator.load_state(str(args.checkpoint))
    except Exception as error:  # torch, safetensors and pickle each have their own
        reason = " ".join(str(error).split())[:300]
        raise SystemExit(checkpoints.damaged(args.checkpoint, Path(args.output_dir), reason)) from error
    for group in optimizer.param_groups:
        group["betas"] = (args.adam_beta1, args.adam_beta2)
        group["weight_decay"] = args.adam_weight_decay
        group["initial_lr"] = args.learning_rate
    lr_scheduler.base_lrs = [args.learning_rate] * len(optimizer.param_groups)
    rates = [args.learning_rate * factor(lr_scheduler.last_epoch) for factor in lr_scheduler.lr_lambdas]
    for group, rate in zip(optimizer.param_groups, rates):
        group["lr"] = rate
    lr_scheduler._last_lr = rates
    ema.decay = args.ema_max_decay
    logger.info(f"Resumed {args.checkpoint.name}, {progress.seconds / 60:.1f} minutes into training.")
