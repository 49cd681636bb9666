"""Calls of a pipeline whose results can be compared."""

import torch
from tiny import seeded


def close(one, other, atol=1e-4):
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


def distance(one, other):
    return (one - other).abs().max()


def pt(call, *args, **kwargs):
    """Frames of a call as a tensor, from the same noise every time unless told otherwise."""
    kwargs = {"generator": seeded(), "output_type": "pt"} | kwargs
    return call(*args, **kwargs).frames
