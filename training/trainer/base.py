"""
What somebody's own clips start from: few clips are learned by heart, so a model had better know people and motions.
"""

import os
from pathlib import Path

from divid_diffusers.data.prepared import load_clips
from divid_diffusers.data.puppets import SETS

from .clips import set_names


EXAMPLES = Path(__file__).parents[2] / "examples"
BASES = {"tiny": EXAMPLES / "divid-puppets-reference", "small": EXAMPLES / "divid-puppets-small"}
SHAPE = (64, 64, 3)  # height, width and channels of the frames they take


def base(args, given: dict) -> str | None:
    """
    The checkpoint where a run starts that was not told where to (`given` are the flags and values of the config file,
    and those of the checkpoint that is resumed). None for drawn puppets, of which it was made, for a preset without
    one, for latents, and for frames that it does not take.
    """
    if args.from_scratch or args.preset not in BASES or args.pretrained_vae:
        return None
    if "pretrained_model_name_or_path" in given:
        return None
    if any(name in SETS for name in set_names(args.dataset)):
        return None
    try:
        shapes = {load_clips(name, "train").shape for name in set_names(args.dataset)}
    except ValueError:  # opening the clips says what is wrong
        return None
    return os.path.relpath(BASES[args.preset]) if shapes == {SHAPE} else None
