"""Puppets: articulated people drawn in code, appearance and motion independent by construction.

A recording is `render(appearance, motion, seed)`. The appearance fixes colours and proportions, the pair
(motion, seed) fixes joint angles over time, and neither ever sees the other. So the answer to a swap, "this person,
that motion", can be rendered and compared pixel by pixel:

    a, b = puppets[0], puppets[1]
    truth = render(Appearance.sample(a["identity"]), MOTIONS[b["action"]], b["motion_seed"])

Three steps, each usable alone: `joints` (angles over time), `positions` (2-D joints of one person), `draw` (pixels).
Coordinates are fractions of the frame, x to the right, y down. "left" is the person's own left, on the right of the
image, because the person faces the camera.
"""

from __future__ import annotations

import colorsys
import operator
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch


RGB = tuple[float, float, float]

JOINTS: tuple[str, ...] = (
    "head", "neck", "pelvis",
    "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle",
)  # fmt: skip
"""Order of the J = 15 joints in `positions` and `draw`; "head" is the middle of the head, "neck" its base."""

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
GROUND = 0.965  # Height of the soles in the frame; the room above is for raised arms.


# --- who ---------------------------------------------------------------------------------------------------------

SKINS = ("f6d7c3", "eebf9f", "dba27a", "c08457", "9c6238", "74452a", "4e2e1e")
HAIRS = ("15110f", "3a2416", "6b3f1d", "a5501e", "d9b25f", "efe0b0", "9a9a9e", "c23b2a")


def _far(one: RGB, others: list[RGB], least: float) -> bool:
    return all(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) >= least**2 for other in others)


@dataclass(frozen=True)
class Appearance:
    """Who is seen: colours (RGB in [0, 1]) and proportions. Nothing in here moves.

    `height` is a fraction of the frame (0.72 to 0.79 when sampled; above 0.8 raised arms leave the frame), `build`
    multiplies limb and trunk widths (0.75 thin to 1.4 stout), `leg_ratio` and `head_size` are the legs' and the head's
    share of the height (around 0.47 and 0.17).
    """

    skin: RGB
    hair: RGB
    top: RGB
    trousers: RGB
    shoes: RGB
    background: RGB
    height: float = 0.74
    build: float = 1.0
    leg_ratio: float = 0.47
    head_size: float = 0.17
    long_hair: bool = False
    short_sleeves: bool = False

    @classmethod
    def sample(cls, seed: int) -> Appearance:
        """The person with this seed, any integer: the same on every machine. Raises ValueError for other seeds."""
        rng = _rng("appearance", seed)

        def colour(saturation: tuple[float, float], value: tuple[float, float]) -> RGB:
            return colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))

        def pick(palette: tuple[str, ...]) -> RGB:
            shade, code = rng.uniform(0.93, 1.05) / 255, palette[int(rng.random() * len(palette))]
            red, green, blue = (min(1.0, int(code[i : i + 2], 16) * shade) for i in (0, 2, 4))
            return red, green, blue

        def clear_of(others: list[RGB], least: float, draw_one: Callable[[], RGB]) -> RGB:
            # Contrast is asked for, and given up by degrees where the colours already drawn leave no room for it.
            while True:
                for _ in range(20):
                    one = draw_one()
                    if _far(one, others, least):
                        return one
                least *= 0.9

        skin = pick(SKINS)
        hair = clear_of([skin], 0.2, lambda: pick(HAIRS))
        top = clear_of([skin, hair], 0.4, lambda: colour((0.6, 1.0), (0.5, 1.0)))
        trousers = clear_of([top, skin], 0.5, lambda: colour((0.35, 1.0), (0.2, 0.9)))
        shoes = clear_of([trousers], 0.45, lambda: colour((0.0, 0.9), (0.1, 1.0)))
        worn = [skin, hair, top, trousers, shoes]
        # Dull: most of a frame is background, and a loud one would be most of what a model spends itself on.
        background = clear_of(worn, 0.5, lambda: colour((0.0, 0.25), (0.25, 0.9)))
        return cls(
            skin, hair, top, trousers, shoes, background,
            height=rng.uniform(0.72, 0.79), build=rng.uniform(0.75, 1.4), leg_ratio=rng.uniform(0.44, 0.50),
            head_size=rng.uniform(0.155, 0.19), long_hair=rng.random() < 0.45, short_sleeves=rng.random() < 0.5,
        )  # fmt: skip


def _rng(purpose: str, seed: int) -> random.Random:
    try:
        # Python promises this stream (a string seed, then random()) across versions; numpy's Generator does not.
        return random.Random(f"puppets/{purpose}/{operator.index(seed)}")
    except TypeError:
        raise ValueError(f"The {purpose} seed of a puppet is {seed!r}: pass a whole number.") from None


# --- what --------------------------------------------------------------------------------------------------------
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
    _at_least("num_frames", num_frames, 1)
    pose, cycles, sided = _MOTIONS[motion]
    rng = _rng(motion, seed)
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


def positions(angles: np.ndarray, appearance: Appearance) -> np.ndarray:
    """Joints of one person in the frame: angles (N, 11) from `joints` -> float32 (N, 15, 2) as in `JOINTS`, (x, y)."""
    # Lengths in body heights: sole to ankle 0.035, neck to chin 0.015.
    leg, head = appearance.leg_ratio, appearance.head_size
    trunk = 1 - leg - head - 0.015
    channel = dict(zip(CHANNELS, np.asarray(angles, np.float64).T, strict=True))
    at: dict[str, np.ndarray] = {}

    def ray(angle: np.ndarray, length: float) -> np.ndarray:
        return length * np.stack([np.sin(angle), np.cos(angle)], -1)

    up = ray(np.pi - channel["lean"], 1.0)
    across = np.stack([-up[:, 1], up[:, 0]], -1)
    at["pelvis"] = np.zeros_like(up)
    at["neck"] = trunk * up
    at["head"] = (trunk + 0.015 + head / 2) * up
    for side, sign in (("left", 1), ("right", -1)):
        wide = sign * appearance.build**0.5
        at[f"{side}_shoulder"] = (trunk - 0.035) * up + 0.098 * wide * across
        at[f"{side}_elbow"] = at[f"{side}_shoulder"] + ray(sign * channel[f"{side}_arm"], 0.178)
        at[f"{side}_wrist"] = at[f"{side}_elbow"] + ray(sign * channel[f"{side}_forearm"], 0.165)
        at[f"{side}_hip"] = at["pelvis"] + 0.048 * wide * across * [1, 0.5]  # Hips tilt less than the trunk.
        at[f"{side}_knee"] = at[f"{side}_hip"] + ray(sign * channel[f"{side}_thigh"], (leg - 0.035) / 2)
        at[f"{side}_ankle"] = at[f"{side}_knee"] + ray(sign * channel[f"{side}_shank"], (leg - 0.035) / 2)
    xy = np.stack([at[name] for name in JOINTS], 1)
    # The lower foot stands on the ground, whatever the legs' lengths: bending both knees lowers the body.
    lowest = np.maximum(at["left_ankle"], at["right_ankle"])[:, 1:]
    xy[..., 1] -= lowest + 0.035 + channel["lift"][:, None]
    xy[..., 0] += channel["shift"][:, None]
    xy = xy * appearance.height + [0.5, GROUND]
    # Sines differ in their last bit between machines; a coarse grid hides that, and `draw` rounds exactly everywhere.
    return (np.round(xy * 65536) / 65536).astype(np.float32)


# --- pixels ------------------------------------------------------------------------------------------------------


def draw(joint_positions: np.ndarray, appearance: Appearance, size: int = 64) -> np.ndarray:
    """Draw any skeleton: joint_positions (N, 15, 2), (x, y) as fractions of the frame -> uint8 (N, size, size, 3).

    Joints may lie outside the frame. Widths come from the appearance, lengths from the joints alone. Raises ValueError
    for another shape, for positions that are not finite, and for size below 1.
    """
    xy = np.asarray(joint_positions, np.float32)
    if xy.ndim != 3 or xy.shape[1:] != (len(JOINTS), 2) or not len(xy):
        raise ValueError(f"joint_positions has shape {xy.shape}: pass (frames, {len(JOINTS)}, 2), ordered as JOINTS.")
    if not np.isfinite(xy).all():
        raise ValueError("joint_positions holds values that are not finite: fill in missing joints before drawing.")
    _at_least("size", size, 1)
    canvas = np.repeat(_background(appearance.background, size)[None], len(xy), 0)
    at = {name: xy[:, i] * np.float32(size) for i, name in enumerate(JOINTS)}
    unit = size * appearance.height
    wide = unit * appearance.build

    def bar(a: np.ndarray, b: np.ndarray, ra: float, rb: float, colour: RGB, shade: float = 1.0) -> None:
        _capsule(canvas, a, b, ra, rb, np.array(colour, np.float32) * np.float32(shade))

    # Painter's order, from the far things to the near ones. Limbs are shaded apart so that they show on the trunk.
    up = _direction(at["head"] - at["neck"])
    side = np.stack([-up[:, 1], up[:, 0]], -1)
    head, face = at["head"], unit * appearance.head_size * 0.42
    if appearance.long_hair:
        bar(head, head - up * (face * 2.3), face * 1.15, face * 0.95, appearance.hair, 0.85)
    for name, sign, shade in (("right", -1, 0.78), ("left", 1, 1.0)):
        hip, knee, ankle = (at[f"{name}_{joint}"] for joint in ("hip", "knee", "ankle"))
        shank = _direction(ankle - knee)
        toe = np.stack([shank[:, 1], -shank[:, 0]], -1) * (sign * 0.045 * unit) + shank * (0.012 * unit)
        bar(ankle, ankle + toe, 0.024 * unit, 0.02 * unit, appearance.shoes)
        bar(knee, ankle, 0.036 * wide, 0.028 * wide, appearance.trousers, shade)
        bar(hip, knee, 0.048 * wide, 0.036 * wide, appearance.trousers, shade)
    bar(at["left_hip"], at["right_hip"], 0.052 * wide, 0.052 * wide, appearance.trousers)
    bar(at["neck"] - up * (0.03 * unit), head, 0.03 * wide, 0.03 * wide, appearance.skin, 0.85)
    for name in ("left", "right"):
        shoulder = at[f"{name}_shoulder"]
        waist = shoulder + (at[f"{name}_hip"] - shoulder) * np.float32(0.86)
        bar(shoulder, waist, 0.042 * wide, 0.056 * wide, appearance.top)
    bar(at["neck"] - up * (0.06 * unit), at["pelvis"] + up * (0.05 * unit), 0.05 * wide, 0.06 * wide, appearance.top)
    bar(at["left_shoulder"], at["right_shoulder"], 0.04 * wide, 0.04 * wide, appearance.top)

    bar(head + up * (face * 0.42), head + up * (face * 0.1), face * 1.05, face * 1.08, appearance.hair)
    bar(head + up * (face * 0.02), head - up * (face * 0.36), face * 0.86, face * 0.8, appearance.skin)
    for sign in (-1, 1):
        eye = head + side * (sign * face * 0.38) - up * (face * 0.08)
        bar(eye, eye, face * 0.15, face * 0.15, (0.08, 0.06, 0.06))

    for name, shade in (("right", 0.72), ("left", 0.84)):
        shoulder, elbow, wrist = (at[f"{name}_{joint}"] for joint in ("shoulder", "elbow", "wrist"))
        sleeve = (appearance.skin, 1.0) if appearance.short_sleeves else (appearance.top, shade)
        bar(elbow, wrist, 0.029 * wide, 0.024 * wide, *sleeve)
        bar(shoulder, elbow, 0.034 * wide, 0.031 * wide, appearance.top, shade)
        bar(wrist, wrist + _direction(wrist - elbow) * (0.02 * unit), 0.03 * unit, 0.028 * unit, appearance.skin)
    return (canvas * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _direction(vector: np.ndarray) -> np.ndarray:
    length = np.sqrt(vector[:, :1] * vector[:, :1] + vector[:, 1:] * vector[:, 1:])
    return vector / np.maximum(length, np.float32(1e-6))


def _background(colour: RGB, size: int) -> np.ndarray:
    grid = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    away = (grid[None, :] - np.float32(0.5)) ** 2 + (grid[:, None] - np.float32(0.5)) ** 2
    floor = np.clip((grid[:, None] - np.float32(0.88)) * np.float32(size) + np.float32(0.5), 0, 1)
    light = (1 - np.float32(0.35) * away) * (1 - np.float32(0.22) * floor)
    return light[..., None] * np.array(colour, np.float32)


def _capsule(canvas: np.ndarray, a: np.ndarray, b: np.ndarray, ra: float, rb: float, colour: np.ndarray) -> None:
    """Paint a rod from a to b (N, 2), in pixels, its radius going from ra to rb, with an edge one pixel soft."""
    frames, size = canvas.shape[:2]
    reach = max(ra, rb) + 1
    low = np.clip(np.floor(np.minimum(a, b) - reach), 0, size).astype(np.int64)
    high = np.clip(np.ceil(np.maximum(a, b) + reach), 0, size).astype(np.int64)
    # One window size for all frames, one place per frame: small enough to be fast, regular enough to vectorise.
    width, height = np.maximum(1, (high - low).max(0))
    columns = np.minimum(low[:, :1], size - width) + np.arange(width)
    rows = np.minimum(low[:, 1:], size - height) + np.arange(height)
    x = (columns + 0.5).astype(np.float32) - a[:, :1]
    y = (rows + 0.5).astype(np.float32) - a[:, 1:]
    rod = b - a
    square = np.maximum(rod[:, :1] * rod[:, :1] + rod[:, 1:] * rod[:, 1:], np.float32(1e-6))
    along = (x * rod[:, :1] / square)[:, None, :] + (y * rod[:, 1:] / square)[:, :, None]
    np.clip(along, 0, 1, out=along)
    dx = x[:, None, :] - along * rod[:, 0, None, None]
    dy = y[:, :, None] - along * rod[:, 1, None, None]
    inside = np.float32(ra + 0.5) + along * np.float32(rb - ra) - np.sqrt(dx * dx + dy * dy)
    np.clip(inside, 0, 1, out=inside)
    # Flat pixel numbers: several times faster than indexing frame, row and column apart.
    place = (np.arange(frames)[:, None] * size + rows)[:, :, None] * size + columns[:, None, :]
    pixels = canvas.reshape(-1, 3)
    old = pixels.take(place, 0)
    pixels[place] = old + inside[..., None] * (colour - old)


def render(appearance: Appearance, motion: str, seed: int, num_frames: int = 10, size: int = 64) -> np.ndarray:
    """One recording: uint8 (num_frames, size, size, 3). Pure; raises ValueError as `joints` and `draw` do."""
    return draw(positions(joints(motion, seed, num_frames), appearance), appearance, size)


# --- data set ----------------------------------------------------------------------------------------------------

SPLITS: tuple[str, ...] = ("train", "test")
SEEDS_PER_SPLIT = 2**30  # "train" draws appearance and motion seeds from [0, 2**30), "test" from [2**30, 2**31).


class Puppets(torch.utils.data.Dataset):
    """Recordings of puppets, drawn when asked for; item i depends on the arguments and i alone.

    Args:
        num_clips: number of recordings, at least 1.
        seed: which draw of recordings.
        num_frames, size: frames per recording and pixels per side, at least 1 each.
        num_appearances: None gives every recording a person of its own; a number takes them from a fixed pool, the
            first so many people of the split, the same whatever the seed.
        split: "train" or "test". The two share no appearance seed and no motion seed, whatever the other arguments.

    Each item is a dict: frames, uint8 tensor (num_frames, 3, size, size); identity, the int for `Appearance.sample`;
    action, an index into `MOTIONS`; motion_seed, the int for `render`; clip_id, a str that names the recording.
    Raises ValueError for bad arguments, IndexError past the end.
    """

    def __init__(
        self,
        num_clips: int,
        seed: int = 0,
        num_frames: int = 10,
        size: int = 64,
        num_appearances: int | None = None,
        split: str = "train",
    ) -> None:
        for name, value in (("num_clips", num_clips), ("num_frames", num_frames), ("size", size)):
            _at_least(name, value, 1)
        if num_appearances is not None:
            _at_least("num_appearances", num_appearances, 1)
            if num_appearances > SEEDS_PER_SPLIT:
                raise ValueError(
                    f"num_appearances is {num_appearances} in Puppets: a split has {SEEDS_PER_SPLIT} people."
                )
        if split not in SPLITS:
            raise ValueError(f"Unknown split {split!r} for Puppets: choose 'train' or 'test'.")
        self.num_clips, self.seed, self.num_frames, self.size = num_clips, seed, num_frames, size
        self.num_appearances, self.split = num_appearances, split
        self._offset = SPLITS.index(split) * SEEDS_PER_SPLIT
        self._first = int(_rng(f"{split} identities", seed).random() * SEEDS_PER_SPLIT)

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> dict:
        i = index + self.num_clips if index < 0 else index
        if not 0 <= i < self.num_clips:
            raise IndexError(f"Puppets holds {self.num_clips} recordings: there is no recording {index}.")
        rng = _rng(f"{self.split} clip {i}", self.seed)
        action = int(rng.random() * len(MOTIONS))
        motion_seed = self._offset + int(rng.random() * SEEDS_PER_SPLIT)
        if self.num_appearances is None:
            identity = self._offset + (self._first + i) % SEEDS_PER_SPLIT  # Counting up: nobody appears twice.
        else:
            identity = self._offset + int(rng.random() * self.num_appearances)
        frames = render(Appearance.sample(identity), MOTIONS[action], motion_seed, self.num_frames, self.size)
        return {
            "frames": torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(),
            "identity": identity,
            "action": action,
            "clip_id": f"puppets-{self.split}-{self.seed}-{i:06d}",
            "motion_seed": motion_seed,
        }


def _at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} is {value!r} in Puppets: pass a whole number of at least {least}.")
