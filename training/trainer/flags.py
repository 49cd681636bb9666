"""The flags that all trainers have, and the config file that sets them."""

import argparse
import shlex
import sys
from pathlib import Path

import yaml

from divid_diffusers.data.sampling import FRAME_SAMPLING


SECRETS = ("hub_token",)  # never printed, logged or written to a card


def new_parser(what: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=f"Train {what}. Values come from the flags, else from --config, else from the defaults below.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--config", help="YAML file with values for the flags below (names with underscores).")
    return parser


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset",
        default="puppets",
        help="puppets, which are drawn as they are needed; or a folder that training/prepare/*.py wrote; or such a set on the Hub.",
    )
    data.add_argument("--num_puppets", type=int, default=10_000, help="Puppet clips in an epoch.")
    data.add_argument("--num_frames", type=int, default=10, help="Frames per clip, in time order.")
    data.add_argument(
        "--frame_sampling",
        default="random",
        choices=FRAME_SAMPLING,
        help="Which frames of a longer clip: at random (the paper's way), one from each of equal parts, neighbours, or a "
        "constant step.",
    )
    data.add_argument("--dataloader_num_workers", type=int, default=0)


def add_optimisation_flags(parser: argparse.ArgumentParser) -> None:
    train = parser.add_argument_group("optimisation")
    train.add_argument("--train_batch_size", type=int, default=16, help="Clips per process and step.")
    train.add_argument("--max_train_steps", type=int, default=10_000, help="Optimizer steps.")
    train.add_argument(
        "--max_train_minutes", type=float, help="Stop (and save) after this time, counted over all resumes."
    )
    train.add_argument("--gradient_accumulation_steps", type=int, default=1)
    train.add_argument("--gradient_checkpointing", action=argparse.BooleanOptionalAction, default=False)
    train.add_argument("--learning_rate", type=float, default=1e-4)
    train.add_argument(
        "--lr_scheduler", default="constant_with_warmup", help="As in diffusers.optimization.get_scheduler."
    )
    train.add_argument("--lr_warmup_steps", type=int, default=500)
    train.add_argument("--adam_beta1", type=float, default=0.9)
    train.add_argument("--adam_beta2", type=float, default=0.999)
    train.add_argument("--adam_weight_decay", type=float, default=1e-2)
    train.add_argument("--max_grad_norm", type=float, default=1.0)
    train.add_argument("--ema_max_decay", type=float, default=0.9999)
    train.add_argument(
        "--mixed_precision",
        choices=["no", "fp16", "bf16"],
        help="Default: accelerate's own config; without one, bf16 on a CPU that computes in it (avx512_bf16), else no.",
    )
    train.add_argument("--seed", type=int, default=0)


def add_output_flags(parser: argparse.ArgumentParser, output_dir: str) -> argparse._ArgumentGroup:
    out = parser.add_argument_group("output")
    out.add_argument("--output_dir", default=output_dir)
    out.add_argument("--logging_dir", default="logs", help="Below --output_dir.")
    out.add_argument("--logging_steps", type=int, default=50)
    out.add_argument("--report_to", default="tensorboard", help="tensorboard, wandb, trackio, all, or none.")
    out.add_argument("--checkpointing_steps", type=int, default=500)
    out.add_argument("--checkpoints_total_limit", type=int, default=2)
    out.add_argument("--resume_from_checkpoint", help='A checkpoint folder, or "latest".')
    out.add_argument("--validation_steps", type=int, default=1000, help="Steps between validation pictures; 0: none.")
    out.add_argument("--num_validation_clips", type=int, default=6)
    out.add_argument("--push_to_hub", action=argparse.BooleanOptionalAction, default=False)
    out.add_argument("--hub_model_id", help="Repository to push to; default: the name of --output_dir.")
    out.add_argument("--hub_token", help="Default: the token of `hf auth login`.")
    return out


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Flags over the config file over defaults; what every trainer would fail at hours later is refused."""
    known, _ = parser.parse_known_args(argv)
    if known.config:
        parser.set_defaults(**read_config(known.config, {action.dest: action for action in parser._actions}))
    args = parser.parse_args(argv)
    args.command = command_line(parser, argv)
    for name in (
        "train_batch_size",
        "max_train_steps",
        "gradient_accumulation_steps",
        "logging_steps",
        "checkpointing_steps",
    ):
        if getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}: it must be at least 1.")
    if args.checkpoints_total_limit is not None and args.checkpoints_total_limit < 1:
        parser.error("--checkpoints_total_limit must leave at least 1 checkpoint to resume from.")
    if args.push_to_hub and args.hub_token and args.report_to == "wandb":
        parser.error("--hub_token would be uploaded with the run's settings by wandb: use `hf auth login` instead.")
    return args


def command_line(parser: argparse.ArgumentParser, argv: list[str] | None) -> str:
    """The command that starts this run, made of the flags that were given: what is published must not repeat a secret."""
    not_given = object()
    given = argparse.Namespace(**{action.dest: not_given for action in parser._actions})
    parser.parse_args(argv, given)
    words = ["accelerate", "launch", f"training/{Path(sys.argv[0]).name}"]
    for action in parser._actions:
        value = getattr(given, action.dest)
        if value is not_given or action.dest in SECRETS:
            continue
        if isinstance(action, argparse.BooleanOptionalAction):
            words.append(action.option_strings[0 if value else 1])
        else:
            words += [action.option_strings[0], str(value)]
    return shlex.join(words)


def read_config(path: str, actions: dict[str, argparse.Action]) -> dict:
    """The file's values, as if they had been given as flags."""
    if not Path(path).is_file():
        raise SystemExit(f"There is no config file at {path}: see training/configs/ for examples.")
    try:
        values = yaml.safe_load(Path(path).read_text()) or {}
    except yaml.YAMLError as error:
        raise SystemExit(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise SystemExit(f"{path} must hold lines such as `preset: tiny`, but holds a {type(values).__name__}.")
    unknown = sorted(set(values) - set(actions))
    if unknown:
        raise SystemExit(
            f"{path} sets {', '.join(unknown)}, which this trainer does not know: see --help for the names."
        )
    return {name: convert(path, actions[name], value) for name, value in values.items()}


def convert(path: str, action: argparse.Action, value):
    """YAML has its own idea of types (1e-4 is a string, no is false); the flag's type decides."""
    if value is None or (isinstance(value, bool) and isinstance(action, argparse.BooleanOptionalAction)):
        return value
    if action.choices and value is False and "no" in action.choices:
        value = "no"
    try:
        value = (action.type or str)(value)
    except ValueError:
        raise SystemExit(
            f"{path} sets {action.dest} to {value!r}: it must be of type {action.type.__name__}."
        ) from None
    if action.choices and value not in action.choices:
        raise SystemExit(f"{path} sets {action.dest} to {value!r}: choose one of {', '.join(action.choices)}.")
    return value
