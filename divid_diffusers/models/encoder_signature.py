"""By what tokens tell whose they are: what knows those of one encoder is refused beside another."""

import torch
from torch import nn

from .offloading import is_group_offloaded


TOLERANCE = 0.02  # between signatures: rounding to half precision moves them by 0.001, other weights by about 1


@torch.no_grad()
def encoder_signature(encoder: nn.Module) -> list[float] | None:
    r"""
    A number for each weight matrix w of an encoder, by which another encoder is told:

        sum_j w_j cos(j) / |w|

    (our choice). It stays the same within 0.001 when weights are rounded to half precision, where a digest would not,
    and is another number, by about 1, for other weights. None where weights are not at hand (offloaded layer by layer
    or in groups, quantised).
    """
    if is_group_offloaded(encoder):
        return None
    found = []
    for weight in encoder.parameters():
        if type(weight) is not nn.Parameter or weight.is_meta or not weight.is_floating_point():
            return None
        if weight.ndim >= 2:
            flat = weight.detach().float().flatten().cpu()
            wave = torch.arange(len(flat), dtype=torch.float64).cos().float()
            found.append(round(float(flat @ wave / flat.norm().clamp(min=1e-12)), 4))
    return found


def may_be_of(encoder: nn.Module, told: list[float] | None) -> bool:
    """Whether `told` is the signature of this encoder; also where either is not known."""
    own = None if told is None else encoder_signature(encoder)
    if told is None or own is None:
        return True
    return len(told) == len(own) and all(abs(one - other) <= TOLERANCE for one, other in zip(told, own))
