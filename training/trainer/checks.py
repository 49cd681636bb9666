"""What every flag of the trainers may be: one table, for flags and values of config files alike."""

import argparse
import math
from collections.abc import Callable

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from huggingface_hub.utils import HFValidationError, validate_repo_id


Rule = tuple[Callable[[float], bool], str]
PRIVATE_TRACKERS = ("none", "tensorboard")  # which write to --output_dir only


def at_least(low: float) -> Rule:
    return lambda value: value >= low, f"it must be at least {low}"


def above(low: float) -> Rule:
    return lambda value: value > low, f"it must be above {low}"


def within(low: float, high: float) -> Rule:
    return lambda value: low <= value <= high, f"it must be from {low} to {high}"


SHARE = (lambda value: 0 <= value < 1, "it must be at least 0 and below 1")

RULES: dict[str, Rule] = {
    # data
    "num_puppets": at_least(1),
    "puppet_size": at_least(1),
    "num_frames": at_least(1),
    "dataloader_num_workers": at_least(0),
    # model and loss of DiViD
    "static_dropout": SHARE,
    "dynamic_dropout": SHARE,
    "dynamic_swaps": within(0, 1),
    "labelled_share": within(0, 1),
    "orthogonality_weight": at_least(0),
    "frames_per_clip": at_least(1),
    "timestep_bias": above(0),
    "motion_weight": at_least(0),
    "huber_scale": above(0),
    "dynamic_recolour": at_least(0),
    "dynamic_stretch": at_least(0),
    "invariance_weight": at_least(0),
    "static_bottleneck": at_least(0),
    "num_inference_steps": at_least(1),
    # loss of the baselines
    "perceptual_weight": at_least(0),
    "contrast_from_epoch": at_least(0),
    # optimisation
    "train_batch_size": at_least(1),
    "max_train_steps": at_least(1),
    "max_train_minutes": above(0),
    "gradient_accumulation_steps": at_least(1),
    "learning_rate": at_least(0),
    "lr_warmup_steps": at_least(0),
    "adam_beta1": SHARE,
    "adam_beta2": SHARE,
    "adam_weight_decay": at_least(0),
    "max_grad_norm": above(0),
    "ema_max_decay": within(0, 1),
    "seed": within(0, 2**32 - 1),  # numpy's
    # output
    "logging_steps": at_least(1),
    "checkpointing_steps": at_least(1),
    "checkpoints_total_limit": at_least(1),
    "validation_steps": at_least(0),
    "num_validation_clips": at_least(1),
    # the judge's augmentation
    "shift": at_least(0),
    "zoom": (lambda value: 0 <= value < 0.7, "it must be at least 0 and below 0.7, where a clip could vanish"),
    "brightness": within(0, 1),
    "blur": at_least(0),
    "noise": within(0, 1),
}


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse, by name, what would fail hours later or be a number without a meaning."""
    for name, value in vars(args).items():
        if isinstance(value, float) and not math.isfinite(value):
            parser.error(f"--{name} is {value}: it must be a number.")
        if name in RULES and value is not None and not RULES[name][0](value):
            parser.error(f"--{name} is {value}: {RULES[name][1]}.")


def check_reports(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """A tracker that is not installed, or would be told a secret; a repository that no Hub would take."""
    known = ["all", "none", *LOGGER_TYPE_TO_CLASS]
    if args.report_to not in known:
        parser.error(f"--report_to is {args.report_to!r}: choose one of {', '.join(known)}.")
    if args.report_to not in ("all", "none") and args.report_to not in [
        str(each) for each in get_available_trackers()
    ]:
        parser.error(
            f"--report_to is {args.report_to}, which is not installed: `pip install {args.report_to}`, or pass "
            "--report_to none."
        )
    if args.hub_token and args.report_to not in PRIVATE_TRACKERS:
        parser.error(
            f"--hub_token would be uploaded with the run's settings by {args.report_to}: use `hf auth login` instead."
        )
    if args.push_to_hub and args.hub_model_id:
        try:
            validate_repo_id(args.hub_model_id)
        except HFValidationError as error:
            parser.error(f"--hub_model_id is {args.hub_model_id!r}: {error}")
