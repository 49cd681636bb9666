"""
How much of a run is done, from 0 to 1, by the steps or by the minutes that it was given, and the learning rate that
belongs there. So a run of twenty minutes is a whole run, and not the first part of a long one.
"""

import math

from .progress import Progress


SHAPES = ("constant", "constant_with_warmup", "linear", "cosine")
WARM_UP = 0.05  # of the run, where it is not given in steps


def share_done(args, progress: Progress) -> float:
    """Of steps and minutes, if both are given, that which ends first."""
    steps = progress.step / args.max_train_steps if args.max_train_steps else 0.0
    time = progress.seconds / (60 * args.max_train_minutes) if args.max_train_minutes else 0.0
    return min(1.0, max(steps, time))


def warm_up_share(args) -> float:
    """Steps are a share of the run only where steps alone are its length."""
    if args.lr_scheduler == "constant" or args.lr_warmup_steps == 0:
        return 0.0
    if args.lr_warmup_steps is None or args.max_train_minutes or not args.max_train_steps:
        return WARM_UP
    return args.lr_warmup_steps / args.max_train_steps


def rate_factor(shape: str, share: float, warm_up: float) -> float:
    """
    What the learning rate is multiplied by when `share` of a run is done: as `diffusers.optimization.get_scheduler`
    for the shapes of these names.
    """
    if share < warm_up:
        return share / warm_up
    rest = (share - warm_up) / max(1 - warm_up, 1e-9)
    return {"linear": 1 - rest, "cosine": (1 + math.cos(math.pi * rest)) / 2}.get(shape, 1.0)
