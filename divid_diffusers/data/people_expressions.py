"""What a rendered face does: facial actions, turns of the head and gaze over time. Nobody in particular does them.

Mixtures of actions are our choice, after the emotions' action units in Ekman and Friesen's FACS; names of the actions
are ARKit's, as Anny has them. MEAD's (Wang et al., ECCV 2020) eight emotions are among the expressions, and its three
levels of intensity are [`LEVELS`].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .people_person import random_numbers


ACTIONS: tuple[str, ...] = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
"""Anny's 52 facial actions, in its order; 1 is their usual height."""

SIDES = ("Left", "Right")
MIXTURES: dict[str, dict[str, float]] = {
    "neutral": {},
    "angry": {"browDown": 1.0, "eyeSquint": 0.4, "noseSneer": 0.6, "mouthPress": 0.6, "mouthFrown": 0.5},
    "contempt": {"mouthSmileLeft": 0.9, "mouthDimpleLeft": 0.9, "eyeSquintLeft": 0.5, "browOuterUpRight": 0.5},
    "disgusted": {"noseSneer": 1.0, "mouthUpperUp": 0.9, "browDown": 0.6, "eyeSquint": 0.7, "mouthFrown": 0.4},
    "fear": {"browInnerUp": 1.0, "browOuterUp": 0.4, "eyeWide": 1.0, "mouthStretch": 1.0, "jawOpen": 0.3},
    "happy": {"mouthSmile": 1.0, "cheekSquint": 0.8, "eyeSquint": 0.3, "mouthUpperUp": 0.4, "jawOpen": 0.2},
    "sad": {"browInnerUp": 1.0, "mouthFrown": 1.0, "mouthShrugLower": 0.7, "eyeLookDown": 0.4, "eyeSquint": 0.3},
    "surprised": {"browInnerUp": 1.0, "browOuterUp": 1.0, "eyeWide": 1.0, "jawOpen": 0.75, "mouthFunnel": 0.3},
    "kiss": {"mouthPucker": 1.0, "mouthFunnel": 0.5, "eyeSquint": 0.3},
    "puff": {"cheekPuff": 1.0, "mouthPress": 0.5},
    "yawn": {"jawOpen": 1.0, "eyeBlink": 0.9, "browInnerUp": 0.5, "mouthStretch": 0.3},
    "tongue": {"tongueOut": 1.0, "jawOpen": 0.45},
}
"""Facial actions of each expression at its height; a name without a side stands for both."""

VISEMES: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.65}, {"jawOpen": 0.25, "mouthStretch": 0.6}, {"mouthPucker": 0.8, "jawOpen": 0.2},
    {"mouthFunnel": 0.8, "jawOpen": 0.4}, {"mouthPress": 0.7, "mouthRollLower": 0.6}, {"mouthUpperUp": 0.4},
)  # fmt: skip
"""Shapes of the mouth that speech goes through, roughly those of a, i, u, o, m and f."""

EXPRESSIONS: tuple[str, ...] = (*MIXTURES, "talk", "blink", "nod", "shake", "tilt", "look")
LEVELS: tuple[str, ...] = ("1", "2", "3")
STRENGTHS = (0.6, 0.9, 1.2)  # of the levels: more than an action's height still looks like a face, up to 1.2
SECONDS = 0.1  # from frame to frame


@dataclass(frozen=True)
class Trajectory:
    """
    A face in motion, N frames 0.1 s apart: `actions` (N, 52) in [0, 1.2], as in [`ACTIONS`]; `head` (N, 3), how far it
    nods (down), turns (to its left) and tilts (to its left); `gaze` (N, 2), how far the eyes look up and to their
    left, both in radians.
    """

    actions: np.ndarray
    head: np.ndarray
    gaze: np.ndarray


def mixture(parts: dict[str, float]) -> np.ndarray:
    """(52,) of actions by name, with or without a side."""
    values = np.zeros(len(ACTIONS))
    for name, value in parts.items():
        for full in (name,) if name in ACTIONS else (name + side for side in SIDES):
            values[ACTIONS.index(full)] = value
    return values


def express(expression: str, level: str, seed: int, num_frames: int = 15) -> Trajectory:
    """
    The trajectory of an expression with this level and seed, any integer, which draws phase, tempo, strength, a sway
    of the head and a blink. It is in full motion from the first frame on. Raises ValueError for an expression or level
    that there is not, fewer than one frame, or a seed that is not a whole number.
    """
    for what, value, known in (("expression", expression, EXPRESSIONS), ("level", level, LEVELS)):
        if value not in known:
            raise ValueError(f"There is no {what} {value!r} of rendered people: choose one of {', '.join(known)}.")
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames} for rendered people: pass at least 1.")
    rng = random_numbers("motion", seed)
    t = np.arange(num_frames) * SECONDS
    strength = STRENGTHS[LEVELS.index(level)] * rng.uniform(0.85, 1.0)

    def wave(low: float, high: float) -> np.ndarray:
        return np.sin(2 * math.pi * (rng.uniform(low, high) * t + rng.random()))

    def blinks(rate: float) -> np.ndarray:
        away = (t * rate + rng.random()) % 1.0 / rate - 0.12  # seconds from the middle of a blink
        return np.clip(1.25 - np.abs(away) / 0.12, 0, 1)

    # Everybody sways and blinks a little, whatever they do.
    head = np.stack([0.03 * wave(0.2, 0.5), 0.05 * wave(0.2, 0.5), 0.03 * wave(0.2, 0.5)], 1)
    gaze = np.stack([0.05 * wave(0.3, 0.8), 0.08 * wave(0.3, 0.8)], 1)
    lids = blinks(rng.uniform(0.3, 0.5))
    swell = 0.62 + 0.38 * wave(0.5, 0.9)  # an expression comes and goes, but never leaves the face
    if expression == "talk":
        actions = strength * speech(rng, t)
    else:
        actions = strength * swell[:, None] * mixture(MIXTURES.get(expression, {}))
    if expression == "blink":
        lids = blinks(rng.uniform(1.4, 2.2))
    swings = {"nod": (0, 0.26, 0.8, 1.4), "shake": (1, 0.42, 0.8, 1.4), "tilt": (2, 0.30, 0.5, 0.8)}
    if expression in swings:
        axis, angle, low, high = swings[expression]
        head[:, axis] += strength * angle * wave(low, high)
    if expression == "look":
        away = wave(0.5, 0.8)
        gaze[:, 1] += strength * 0.5 * away
        head[:, 1] += strength * 0.3 * away
    head[:, 0] += strength * swell * {"sad": 0.18, "fear": -0.08, "yawn": -0.12, "angry": 0.06}.get(expression, 0.0)
    head[:, 2] += strength * swell * {"contempt": 0.10}.get(expression, 0.0)
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        column = actions[:, ACTIONS.index(name)]
        column[:] = np.minimum(np.maximum(column, 0 if expression in ("surprised", "fear") else lids), 1)
    return Trajectory(actions, head, gaze)


def speech(rng, t: np.ndarray) -> np.ndarray:
    """(N, 52): from one viseme to the next, four to six a second."""
    pace, start = rng.uniform(4.0, 6.0), rng.random()
    order = [int(rng.random() * len(VISEMES)) for _ in range(int(pace * t[-1] + start) + 2)]
    shapes = np.stack([mixture(VISEMES[i]) for i in order])
    place = pace * t + start
    first = place.astype(int)
    share = (0.5 - 0.5 * np.cos(math.pi * (place - first)))[:, None]
    return (1 - share) * shapes[first] + share * shapes[first + 1]
