"""Models without a network: what a swap test gives to tricks. A model that is not ahead of them has shown nothing."""

from collections.abc import Callable

import torch
import torch.nn.functional as F


VERSION = 1  # part of every floor's fingerprint: count up when a rule changes
MOVES = 0.05  # a pixel moves where any channel differs by more from the first frame, of values in [0, 1]
SIDE = 16  # pixels per side at which clips are compared by the retrieval


class Floor:
    """
    A [`Disentangler`] whose codes are the clips themselves, and whose decoder is a rule from a static and a dynamic
    donor to a clip.

    Args:
        name (`str`): what tables call it.
        rule: static and dynamic donors, `(B, N, C, H, W)` in [0, 1] each, to clips of that shape.
        frame_shape (`tuple[int, int, int]`): (C, H, W).
    """

    def __init__(self, name: str, rule: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], frame_shape):
        self.name, self.rule, self.frame_shape = name, rule, tuple(frame_shape)

    def encode(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return clips.flatten(1), clips.flatten(2)

    def decode(self, static: torch.Tensor, dynamic: torch.Tensor) -> torch.Tensor:
        shape = (*dynamic.shape[:2], *self.frame_shape)
        return self.rule(static.reshape(shape), dynamic.reshape(shape))

    def fingerprint(self) -> str:
        return f"{self.name}, version {VERSION}"


def pixel_residual(static: torch.Tensor, dynamic: torch.Tensor) -> torch.Tensor:
    """`clip(x_static[1] + x_dynamic[i] - x_dynamic[1])`, in pixels: DiViD's residuals without a network."""
    return (static[:, :1] + dynamic - dynamic[:, :1]).clamp(0, 1)


def static_frame_held(static: torch.Tensor, dynamic: torch.Tensor) -> torch.Tensor:
    return static[:, :1].expand_as(static).clone()


def moving_pixels_pasted(static: torch.Tensor, dynamic: torch.Tensor) -> torch.Tensor:
    """The static donor's first frame, with the dynamic donor's pixels where those differ from its first frame."""
    moves = (dynamic - dynamic[:, :1]).abs().amax(dim=2, keepdim=True) > MOVES
    return torch.where(moves, dynamic, static[:, :1])


class NearestTrainingClip:
    """
    Retrieval: of the training clips `(T, N, C, H, W)` in [0, 1] the one that is nearest to the pixel residual, not
    clipped, in mean squared error of frames averaged down to 16 x 16: it starts as the static donor and changes as the
    dynamic one. No label is used.
    """

    def __init__(self, train: torch.Tensor):
        self.train, self.small = train, shrunk(train)

    def __call__(self, static: torch.Tensor, dynamic: torch.Tensor) -> torch.Tensor:
        return self.train[nearest(shrunk(static[:, :1] + dynamic - dynamic[:, :1]), self.small)]


def shrunk(clips: torch.Tensor) -> torch.Tensor:
    """`(B, N * C * 16 * 16)`, or as many pixels as smaller frames have."""
    side = tuple(min(SIDE, each) for each in clips.shape[-2:])
    return F.adaptive_avg_pool2d(clips.flatten(0, 1), side).reshape(len(clips), -1)


def nearest(wanted: torch.Tensor, offered: torch.Tensor) -> torch.Tensor:
    """For each row of `(B, F)` the place of the nearest row of `(T, F)`, `(B,)`."""
    return torch.cdist(wanted, offered).argmin(dim=1)


def floors(train: torch.Tensor) -> list[Floor]:
    """All floors, for clips of this shape. `train` `(T, N, C, H, W)` in [0, 1]: what the retrieval may find."""
    rules = {
        "pixel residual": pixel_residual,
        "moving pixels pasted": moving_pixels_pasted,
        "nearest training clip": NearestTrainingClip(train),
        "static frame held": static_frame_held,
        "copy of the static donor": lambda static, dynamic: static,
        "copy of the dynamic donor": lambda static, dynamic: dynamic,
    }
    return [Floor(name, rule, train.shape[2:]) for name, rule in rules.items()]
