"""What a finished run leaves: the pipeline, its card, and a copy on the Hub if that was asked for."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from accelerate.logging import get_logger
from torch import nn

from .card import run_facts
from .checkpoints import complete_checkpoints
from .progress import Progress
from .recipe import Recipe


logger = get_logger(__name__)
PUSH_TO_HUB = Path(__file__).parents[1] / "publish" / "push_to_hub.py"


def save_pipeline(recipe: Recipe, module: nn.Module, args, progress: Progress, processes: int, figures: dict) -> None:
    """
    `module` is the recipe's, with the weights to keep; `figures` its last validation's, which may be of an earlier
    step.
    """
    output_dir = Path(args.output_dir)
    try:
        recipe.pipeline(module).save_pretrained(output_dir)
        recipe.write_card(output_dir, run_facts(args, progress, processes, figures))
    except OSError as error:
        found = complete_checkpoints(output_dir)
        way_out = (
            f"make room and go on with --resume_from_checkpoint {found[-1]}" if found else "make room and train again"
        )
        raise SystemExit(
            f"The pipeline could not be saved to {output_dir}: {error} Training is at its end: {way_out}."
        ) from error
    logger.info(f"Saved the pipeline to {output_dir}.")
    if args.push_to_hub:
        push(output_dir, args)


def push(output_dir: Path, args) -> None:
    """By the script that publishes any run, in a process of its own; it has printed why, should it fail."""
    words = [str(output_dir), "--repo_id", args.hub_model_id or output_dir.name]
    token = (
        {"HF_TOKEN": args.hub_token} if args.hub_token else {}
    )  # a command line can be read by everyone on the machine
    if subprocess.run([sys.executable, str(PUSH_TO_HUB), *words], env=os.environ | token).returncode:
        raise SystemExit(
            f"The pipeline is saved in {output_dir}, but was not published: mend what the line above names, then run "
            f"`python training/publish/push_to_hub.py {shlex.join(words)}`."
        )
