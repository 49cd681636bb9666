"""Rendered people: identity and motion independent by construction, so that any swap has a known answer.

A clip is `render(person, expression, level, seed)`. The person fixes shape, colours and light, the other three fix
what the face does, and neither ever sees the other. So the answer to a swap, "this person, that motion", can be
rendered:

    truth = render(Person.sample(12), "happy", "3", seed=345)  # uint8 (15, 64, 64, 3)

They are drawn from Anny's parametric body and are no real person. It needs the extra `people` and OpenGL; seconds for
the first clip of a process, then about half a second for a clip.
"""

from __future__ import annotations

import functools
import re

import numpy as np

from .people_drawing import Renderer
from .people_expressions import ACTIONS, EXPRESSIONS, LEVELS, Trajectory, express
from .people_mesh import PersonMesh
from .people_person import Person


__all__ = [
    "ACTIONS",
    "EXPRESSIONS",
    "LEVELS",
    "Person",
    "Trajectory",
    "clip_name",
    "express",
    "of_clip_name",
    "render",
    "render_trajectory",
]


DRAWING = 1
"""Counted up when the same person and motion come out as other pixels: old and new are not mixed in a set."""


@functools.cache
def head_mesh() -> PersonMesh:
    return PersonMesh("head")


@functools.lru_cache(maxsize=2)
def renderer(size: int) -> Renderer:
    return Renderer(head_mesh(), size)


def render(person: Person, expression: str, level: str, seed: int, num_frames: int = 15, size: int = 64) -> np.ndarray:
    """
    One clip: uint8 (num_frames, size, size, 3), 0.1 s from frame to frame. Raises ValueError as [`express`] and where
    the face leaves the frame, ImportError without Anny, OSError without OpenGL.
    """
    return render_trajectory(person, express(expression, level, seed, num_frames), size)


def render_trajectory(person: Person, trajectory: Trajectory, size: int = 64) -> np.ndarray:
    """A person with any facial actions, pose of the head and gaze: uint8 (N, size, size, 3). Raises as [`render`]."""
    mesh = head_mesh()
    nod, turn, tilt = trajectory.head.T
    up, left = trajectory.gaze.T
    half = turned(nod / 2, tilt / 2, turn / 2)
    eyes = turned(-up, np.zeros_like(up), left)
    rest = mesh.rest(person.phenotype, person.changes)
    still = mesh.move(rest, np.zeros((1, len(ACTIONS))), {})[0]
    bones = {"neck02": half, "head": half, "eye.L": eyes, "eye.R": eyes}
    return renderer(size).draw(person, still, mesh.move(rest, trajectory.actions, bones))


def clip_name(person: int, expression: str, level: str, seed: int) -> str:
    """The id of a clip, which says how it is rendered."""
    return f"p{person}-{expression}-{level}-{seed}"


def of_clip_name(name: str) -> tuple[int, str, str, int]:
    """What [`clip_name`] was made of. Raises ValueError for another name."""
    parts = re.fullmatch(rf"p(\d+)-({'|'.join(EXPRESSIONS)})-({'|'.join(LEVELS)})-(\d+)", name)
    if parts is None:
        raise ValueError(f"{name!r} does not name a clip of rendered people, as 'p12-happy-3-345' does.")
    return int(parts[1]), parts[2], parts[3], int(parts[4])


def turned(about_x: np.ndarray, about_y: np.ndarray, about_z: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) by angles (N,): about x, then y, then z."""
    result = np.broadcast_to(np.eye(3), (len(about_x), 3, 3))
    for angle, (i, j) in ((about_x, (1, 2)), (about_y, (2, 0)), (about_z, (0, 1))):
        matrix = np.zeros_like(result)
        matrix[:] = np.eye(3)
        matrix[:, i, i] = matrix[:, j, j] = np.cos(angle)
        matrix[:, i, j], matrix[:, j, i] = -np.sin(angle), np.sin(angle)
        result = matrix @ result
    return result
