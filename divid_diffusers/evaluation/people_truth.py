"""The true clip of a swap between rendered people: that person with that motion, rendered."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from ..data.people import EXPRESSIONS, Person, Trajectory, clip_name, express, of_clip_name, render_trajectory
from ..data.sampling import sample_frame_indices


if TYPE_CHECKING:
    from ..data.prepared import PreparedClips


PEOPLE_LABELS = {"identity", "skin", "hair", "beard", "action", "level"}


class PeopleTruth:
    """
    [`TrueClips`] of rendered people. Other motions have the donor's level and seed, and other expressions.

    Args:
        clips: a split that training/prepare/people.py made.
        num_frames (`int`): N evenly spaced frames of a clip.

    A second of work for four clips: so only a few others are compared with, and what was rendered is kept, up to a
    quarter of a gigabyte at 64 pixels. Raises ValueError for clips whose ids do not say how they are rendered;
    ImportError and OSError as [`divid_diffusers.data.people.render`].
    """

    most_others = 4
    tolerance = 2 / 255  # mean over pixels: another driver of OpenGL rounds otherwise

    def __init__(self, clips: PreparedClips, num_frames: int):
        self.people, self.num_frames = clips.labels["identity"], num_frames
        first = clips[0]["frames"]
        self.length, self.size = len(first), first.shape[-1]
        self.rendered = functools.lru_cache(maxsize=2048)(self._rendered)

    def _rendered(self, person: int, expression: str, level: str, seed: int) -> torch.Tensor:
        whole = express(expression, level, seed, self.length)
        shown = sample_frame_indices(self.length, self.num_frames)
        trajectory = Trajectory(whole.actions[shown], whole.head[shown], whole.gaze[shown])
        frames = render_trajectory(Person.sample(person), trajectory, self.size)
        return torch.from_numpy(frames).permute(0, 3, 1, 2)

    def __call__(self, static_donor: dict, dynamic_donor: dict) -> torch.Tensor:
        person = int(self.people[static_donor["identity"]])
        return self.rendered(person, *of_clip_name(dynamic_donor["clip_id"])[1:]).float() / 255

    def other_motions(self, dynamic_donor: dict) -> list[dict]:
        person, expression, level, seed = of_clip_name(dynamic_donor["clip_id"])
        own = EXPRESSIONS.index(expression)
        others = [(own + i) % len(EXPRESSIONS) for i in range(1, self.most_others + 1)]
        return [{"action": i, "clip_id": clip_name(person, EXPRESSIONS[i], level, seed)} for i in others]
