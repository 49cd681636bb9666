"""Pixels: a puppet is painted from its joints, one soft-edged rod after another."""

import numpy as np

from .puppet_arguments import at_least
from .puppet_body import JOINTS, RGB, Appearance


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
    at_least("size", size, 1)
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
