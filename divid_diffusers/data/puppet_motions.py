"""What puppets do: joint angles over time. Nothing in here knows who moves.

"left" is the person's own left, on the right of the image, because the person faces the camera.
"""

from collections.abc import Callable

import numpy as np

from .puppet_arguments import at_least, random_numbers


CHANNELS: tuple[str, ...] = (
    "left_arm", "left_forearm", "left_thigh", "left_shank",
    "right_arm", "right_forearm", "right_thigh", "right_shank",
    "lean", "shift", "lift",
)  # fmt: skip
"""Order of the C = 11 channels of `joints`. Limb angles are 0 hanging down and grow outwards, away from the body's
midline (90 degrees: sideways, 180: straight up); `lean` tips the trunk to the right of the image; `shift` (to the
right of the image) and `lift` (off the ground) move the whole body, in body heights."""

# One standing pose opens every recording, so that the first frame tells who and never what.
REST = {"left_arm": 14.0, "left_forearm": 8.0, "left_thigh": 5.0, "left_shank": 3.0,
        "right_arm": 14.0, "right_forearm": 8.0, "right_thigh": 5.0, "right_shank": 3.0}  # fmt: skip

FRAMES_PER_UNIT = 9  # Ten frames span one unit of time; longer recordings go on at the same frame rate.


# Each motion maps its phase a (radians, 0 at the onset) to target channels in degrees, body heights for shift and
# lift; channels it leaves out stay at rest. Sided motions are written for the person's left.


def _swing(a: np.ndarray) -> np.ndarray:
    return (1 - np.cos(a)) / 2  # 0 at the onset, 1 half a cycle later


def _both(**limbs: object) -> dict:
    return {f"{side}_{limb}": angle for limb, angle in limbs.items() for side in ("left", "right")}


def _wave(a: np.ndarray) -> dict:
    return {"left_arm": 112, "left_forearm": 172 + 42 * np.sin(a), "lean": -4}


def _jumping_jack(a: np.ndarray) -> dict:
    u = _swing(a)
    legs = 4 + 24 * u
    return _both(arm=14 + 146 * u, forearm=8 + 158 * u, thigh=legs, shank=legs) | {"lift": 0.05 * np.sin(a) ** 2}


def _squat(a: np.ndarray) -> dict:
    u = _swing(a)
    return _both(arm=14 + 30 * u, forearm=8 - 68 * u, thigh=5 + 63 * u, shank=3 - 24 * u)


def _punch(a: np.ndarray) -> dict:
    u = _swing(a)
    fists = {"left_arm": 25 + 67 * u, "left_forearm": 150 - 58 * u, "right_arm": 32, "right_forearm": 196}
    legs = {"left_thigh": 20, "left_shank": 8, "right_thigh": 18, "right_shank": 22}
    return fists | legs | {"lean": 10 * u, "shift": 0.03 * u}


def _kick(a: np.ndarray) -> dict:
    u = _swing(a)
    arms = {"left_arm": 30, "left_forearm": 130, "right_arm": 45, "right_forearm": 130}
    legs = {"left_thigh": 5 + 83 * u, "left_shank": 3 + 83 * u**2, "right_thigh": 3}
    return arms | legs | {"lean": -20 * u, "shift": -0.07 * u}


def _bow(a: np.ndarray) -> dict:
    u = _swing(a)
    arms = {"left_arm": 14 - 10 * u, "right_arm": 14 - 24 * u, "right_forearm": 8 - 16 * u}
    return arms | {"lean": 82 * u, "shift": -0.1 * u}


def _clap(a: np.ndarray) -> dict:
    u = _swing(a)
    return _both(arm=58 - 38 * u, forearm=112 + 124 * u)


def _walk(a: np.ndarray) -> dict:
    # Seen from the side: x angles, to the right of the image, which for the right limbs is inwards.
    step = 30 * np.sin(a)
    left_knee, right_knee = 42 * np.maximum(0, np.cos(a)), 42 * np.maximum(0, -np.cos(a))
    legs = {"left_thigh": step, "left_shank": step - left_knee, "right_thigh": step, "right_shank": step + right_knee}
    arms = {"left_arm": -step, "left_forearm": 50 - step, "right_arm": -step, "right_forearm": -50 - step}
    return legs | arms | {"lean": 5}


def _raise_arms(a: np.ndarray) -> dict:
    u = _swing(a)
    return _both(arm=78 + 92 * u, forearm=165 + 13 * u)


def _lunge(a: np.ndarray) -> dict:
    u = _swing(a)
    legs = {"left_thigh": 5 + 67 * u, "left_shank": 3, "right_thigh": 5 + 50 * u, "right_shank": 3 + 55 * u}
    return legs | _both(arm=42, forearm=-62) | {"shift": 0.02 * u}


def _march(a: np.ndarray) -> dict:
    left, right = np.maximum(0, np.sin(a)), np.maximum(0, -np.sin(a))
    legs = {"left_thigh": 4 + 84 * left, "left_shank": 3 - 12 * left, "right_thigh": 4 + 84 * right}
    arms = {"left_arm": 22, "left_forearm": 30 + 110 * right, "right_arm": 22, "right_forearm": 30 + 110 * left}
    return legs | arms | {"right_shank": 3 - 12 * right}


def _side_bend(a: np.ndarray) -> dict:
    u = _swing(a)
    arms = {"left_arm": 40, "left_forearm": -55, "right_arm": 14 + 176 * u, "right_forearm": 8 + 222 * u}
    return arms | _both(thigh=12, shank=12) | {"lean": 40 * u, "shift": -0.09 * u}


# Cycles per unit of time, and whether the motion has a side the seed may mirror.
_MOTIONS: dict[str, tuple[Callable, float, bool]] = {
    "wave": (_wave, 1.9, True),
    "jumping_jack": (_jumping_jack, 1.35, False),
    "squat": (_squat, 1.1, False),
    "punch": (_punch, 1.6, True),
    "kick": (_kick, 1.2, True),
    "bow": (_bow, 1.0, True),
    "clap": (_clap, 2.0, False),
    "walk": (_walk, 1.5, True),
    "raise_arms": (_raise_arms, 1.15, False),
    "lunge": (_lunge, 1.1, True),
    "march": (_march, 1.4, True),
    "side_bend": (_side_bend, 1.0, True),
}
MOTIONS: tuple[str, ...] = tuple(_MOTIONS)


def joints(motion: str, seed: int, num_frames: int = 10) -> np.ndarray:
    """Joint angles over time: float64 (num_frames, 11), columns as in `CHANNELS`, in radians and body heights.

    A function of motion and seed only. The seed varies onset, speed, amplitude and, where there is one, the side.
    Row 0 is the standing rest pose whatever the motion. Frames are 1/9 of a time unit apart, so ten of them show one
    to two cycles and a longer recording begins with the same frames. Raises ValueError for a motion not in
    `MOTIONS`, a seed that is not a whole number, or num_frames below 1.
    """
    if motion not in _MOTIONS:
        raise ValueError(f"Unknown motion {motion!r}: choose one of {', '.join(MOTIONS)}.")
    at_least("num_frames", num_frames, 1)
    pose, cycles, sided = _MOTIONS[motion]
    rng = random_numbers(motion, seed)
    onset, speed, amplitude = rng.uniform(0, 0.07), rng.uniform(0.88, 1.12), rng.uniform(0.9, 1.03)
    mirrored = sided and rng.random() < 0.5

    time = np.maximum(0, np.arange(num_frames) / FRAMES_PER_UNIT - onset)
    ramp = np.minimum(1, time / 0.28)
    ramp = ramp * ramp * (3 - 2 * ramp)
    target = pose(2 * np.pi * cycles * speed * time)
    out = np.zeros((num_frames, len(CHANNELS)))
    for column, name in enumerate(CHANNELS):
        rest = REST.get(name, 0.0)
        out[:, column] = rest + amplitude * ramp * (target.get(name, rest) - rest)
    if mirrored:  # Left and right limbs change places, lean and shift change sign.
        out = out[:, [4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10]] * [1, 1, 1, 1, 1, 1, 1, 1, -1, -1, 1]
    out[:, :9] = np.deg2rad(out[:, :9])
    return out
