"""The running statistics of averaged weights."""

from collections.abc import Callable

import torch
from torch import nn


NUM_BATCHES = 50


@torch.no_grad()
def settle_batch_norm(module: nn.Module, forward: Callable[[int], object], num_batches: int = NUM_BATCHES) -> None:
    """
    Measure the statistics of BatchNorm anew, over `forward(0)`, `forward(1)`, ..., each a pass over a batch of
    training clips: those of the last steps are not those of averaged weights. Leaves the module as it is if it has
    none, else in evaluation mode.
    """
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average
    module.train()
    for number in range(num_batches):
        for norm in norms:
            norm.num_batches_tracked.fill_(
                number
            )  # whatever else the forward pass puts through them and lets them forget
        forward(number)
    module.eval()
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
