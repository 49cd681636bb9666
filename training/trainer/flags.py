"""
The flags that all trainers have, and where their values come from. In order: the flags given, the config file, the
checkpoint that the run goes on from (or starts from), the defaults. All of that is settled before anything is checked.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from divid_diffusers.data.sampling import FRAME_SAMPLING

from . import checkpoints, resume
from .checks import check, check_reports
from .schedule import SHAPES


SECRETS = ("hub_token",)  # never printed, logged or written to a card
PATHS = (
    "config",
    "dataset",
    "output_dir",
    "logging_dir",
    "pretrained_model_name_or_path",
    "pretrained_vae",
    "cache_latents",
    "resume_from_checkpoint",
)


def new_parser(what: str, defaults: str = "the defaults below") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=f"Train {what}. Values come from the flags, else from --config, else from the checkpoint that is "
        f"resumed or started from, else from {defaults}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--config", help="YAML file with values for the flags below (names with underscores).")
    return parser


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset",
        default="puppets",
        help="puppets; puppets-mid, which open in the middle of a movement; puppets-varied, which are also framed by "
        "anybody: all drawn as they are needed; or a folder that training/prepare/*.py wrote; or such a set on the "
        "Hub. a+b joins two.",
    )
    data.add_argument("--num_puppets", type=int, default=10_000, help="Puppet clips in an epoch.")
    data.add_argument("--puppet_size", type=int, default=64, help="Pixels a side of their frames.")
    data.add_argument("--num_frames", type=int, default=10, help="Frames per clip, in time order.")
    data.add_argument(
        "--frame_sampling",
        default="random",
        choices=FRAME_SAMPLING,
        help="Which frames of a longer clip: at random (the paper's way), one from each of equal parts, neighbours, "
        "or a "
        "constant step.",
    )
    data.add_argument("--dataloader_num_workers", type=int, default=0)


def add_optimisation_flags(parser: argparse.ArgumentParser) -> None:
    train = parser.add_argument_group("optimisation")
    train.add_argument("--train_batch_size", type=int, default=16, help="Clips per process and step.")
    train.add_argument(
        "--max_train_steps",
        type=int,
        help="Optimizer steps. Without these and without minutes, what is proposed after the first steps is taken.",
    )
    train.add_argument(
        "--max_train_minutes",
        type=float,
        help="A whole run in this time, counted over all resumes: the learning rate falls as it passes.",
    )
    train.add_argument("--gradient_accumulation_steps", type=int, default=1)
    train.add_argument("--gradient_checkpointing", action=argparse.BooleanOptionalAction, default=False)
    train.add_argument("--learning_rate", type=float, default=1e-4)
    train.add_argument(
        "--lr_scheduler",
        default="cosine",
        choices=SHAPES,
        help="Over the whole run, as in diffusers.optimization.get_scheduler.",
    )
    train.add_argument(
        "--lr_warmup_steps", type=int, help="0: none. Default, and where minutes are given: a twentieth of the run."
    )
    train.add_argument("--adam_beta1", type=float, default=0.9)
    train.add_argument("--adam_beta2", type=float, default=0.999)
    train.add_argument("--adam_weight_decay", type=float, default=1e-2)
    train.add_argument("--max_grad_norm", type=float, default=1.0)
    train.add_argument("--ema_max_decay", type=float, default=0.9999)
    train.add_argument(
        "--mixed_precision",
        choices=["no", "fp16", "bf16"],
        help="Default: accelerate's own config; without one, bf16 on a CPU with avx512_bf16, else no.",
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
    out.add_argument(
        "--resume_from_checkpoint", help='A checkpoint folder, or "latest". What is not given is then as it was.'
    )
    out.add_argument(
        "--validation_steps",
        type=int,
        help="Steps between validation pictures; 0: none. Default: the first after a minute, then ever rarer.",
    )
    out.add_argument("--num_validation_clips", type=int, default=6)
    out.add_argument(
        "--license", help="Of the weights, for the model card, such as apache-2.0; default: none is claimed."
    )
    out.add_argument("--push_to_hub", action=argparse.BooleanOptionalAction, default=False)
    out.add_argument("--hub_model_id", help="Repository to push to; default: the name of --output_dir.")
    out.add_argument("--hub_token", help="Default: the token of `hf auth login`.")
    return out


def parse(
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    inherit: Callable[[argparse.Namespace, dict], dict] | None = None,
    recipe: Callable[[argparse.Namespace], Path] | None = None,
) -> argparse.Namespace:
    """
    The run's one configuration, checked. `recipe` names, from what was given, a file that is read in place of the
    defaults. `inherit` is asked where a run starts from a pretrained checkpoint: from the
    flags so far and those that were given it makes those that the checkpoint decides.

    Beside the flags the result has `command` (to print: no secret, no path of this machine), `checkpoint` (the folder
    to resume, or None) and `given` (the names that flags or config file gave).
    """
    before_the_recipe = {action.dest: action.default for action in parser._actions}
    known, _ = parser.parse_known_args(argv)
    from_file = {}
    if known.config:
        from_file = read_config(known.config, parser)
    if recipe and (defaults := recipe(argparse.Namespace(**vars(known) | from_file | flags_given(parser, argv)))):
        parser.set_defaults(**read_config(str(defaults), parser))
    parser.set_defaults(**from_file)
    from_flags = flags_given(parser, argv)
    args = parser.parse_args(argv)
    given = from_file | from_flags
    checkpoint, saved = None, None
    if args.resume_from_checkpoint:
        checkpoint = checkpoints.find_checkpoint(args.resume_from_checkpoint, Path(args.output_dir))
    if checkpoint is not None:
        saved = resume.read_flags(checkpoint, Path(args.output_dir))
        kept = saved.get("flags", {})
        if kept:  # an option of the recipe that is younger than the run is off
            kept = before_the_recipe | kept
        kept = {name: value for name, value in kept.items() if name not in resume.OF_THE_MACHINE}
        parser.set_defaults(
            **{name: value for name, value in kept.items() if name not in given and hasattr(args, name)}
        )
        args = parser.parse_args(argv)
    if inherit:
        decided = inherit(args, (saved or {}).get("flags", {}) | given)
        parser.set_defaults(**{name: value for name, value in decided.items() if name not in from_flags})
    args = parser.parse_args(argv)
    check(parser, args)
    check_reports(parser, args)
    if args.lr_scheduler == "constant" and given.get("lr_warmup_steps"):
        parser.error(
            f"--lr_warmup_steps is {args.lr_warmup_steps}, but --lr_scheduler constant has no warm-up: choose "
            "constant_with_warmup."
        )
    commands = list((saved or {}).get("commands", []))
    command = command_line(parser, from_flags)
    args.command = "\n".join(dict.fromkeys([*commands, command]))
    args.checkpoint, args.given = checkpoint, frozenset(given)
    if saved:
        resume.refuse_changes(parser, args, saved)
    return args


def flags_of(args: argparse.Namespace) -> dict:
    """What a checkpoint stores of them: plain values, no secrets."""
    plain = (bool, int, float, str, type(None))
    return {
        name: value
        for name, value in vars(args).items()
        if isinstance(value, plain) and name not in (*SECRETS, "command", "checkpoint")
    }


def shown(name: str, value):
    """The value as others may see it: of a path on this machine, the name only."""
    if name == "dataset" and "+" in value and not Path(value).exists():
        return "+".join(shown(name, each) for each in value.split("+"))
    if name in PATHS and isinstance(value, str) and (Path(value).is_absolute() or value[:1] == "~" or ".." in value):
        return Path(value).name
    return value


def flags_shown(args: argparse.Namespace) -> dict:
    """What trackers are told: no secrets, no paths of this machine."""
    return {name: shown(name, value) for name, value in flags_of(args).items() if value is not None}


def flags_given(parser: argparse.ArgumentParser, argv: list[str] | None) -> dict:
    """Those on the command line, with their values."""
    not_given = object()
    given = argparse.Namespace(**{action.dest: not_given for action in parser._actions})
    parser.parse_args(argv, given)
    return {name: value for name, value in vars(given).items() if value is not not_given}


def command_line(parser: argparse.ArgumentParser, given: dict) -> str:
    """
    The command that starts this run, made of the flags that were given: what is published must not repeat a secret.
    """
    words = ["accelerate", "launch", f"training/{Path(sys.argv[0]).name}"]
    for action in parser._actions:
        if action.dest not in given or action.dest in SECRETS:
            continue
        value = given[action.dest]
        if isinstance(action, argparse.BooleanOptionalAction):
            words.append(action.option_strings[0 if value else 1])
        else:
            words += [action.option_strings[0], str(shown(action.dest, value))]
    return shlex.join(words)


def read_config(path: str, parser: argparse.ArgumentParser) -> dict:
    """The file's values, as if they had been given as flags."""
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    if not Path(path).is_file():
        raise SystemExit(f"There is no config file at {path}: see training/configs/ for examples.")
    try:
        text = Path(path).read_text()
        values, node = yaml.safe_load(text) or {}, yaml.compose(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SystemExit(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise SystemExit(f"{path} must hold lines such as `preset: tiny`, but holds a {type(values).__name__}.")
    names = [key.value for key, _ in node.value] if node else []
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SystemExit(f"{path} sets {', '.join(twice)} twice: remove one of the lines.")
    unknown = sorted(str(name) for name in values if name not in actions)
    if unknown:
        raise SystemExit(
            f"{path} sets {', '.join(unknown)}, which this trainer does not know: see --help for the names."
        )
    return {name: convert(path, actions[name], value) for name, value in values.items()}


def convert(path: str, action: argparse.Action, value):
    """
    YAML has its own idea of types (1e-4 is a string, no is false); the flag's type decides, and nothing is rounded or
    guessed.
    """

    def refuse(wanted: str):
        raise SystemExit(f"{path} sets {action.dest} to {value!r}: {wanted}.")

    if value is None:
        if action.default is not None and action.dest != "checkpoints_total_limit":  # of which none is no limit
            refuse("remove the line for the default")
        return None
    if isinstance(action, argparse.BooleanOptionalAction):
        return value if isinstance(value, bool) else refuse("it must be true or false, without quotes")
    if action.choices and value is False and "no" in action.choices:
        value = "no"
    kind = action.type or str
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float, str))
        or (kind is int and isinstance(value, float))
    ):
        refuse(f"it must be of type {kind.__name__}")
    try:
        converted = kind(value)
    except (ValueError, OverflowError):
        refuse(f"it must be of type {kind.__name__}")
    if action.choices and converted not in action.choices:
        refuse(f"choose one of {', '.join(action.choices)}")
    return converted
