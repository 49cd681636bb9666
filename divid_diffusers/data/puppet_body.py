"""Who a puppet is: colours and proportions, and how bones of these lengths make a body. Nothing in here moves."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .puppet_arguments import random_numbers


RGB = tuple[float, float, float]

JOINTS: tuple[str, ...] = (
    "head", "neck", "pelvis",
    "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle",
)  # fmt: skip
"""Order of the J = 15 joints in `positions` and `draw`; "head" is the middle of the head, "neck" its base."""

BONES: tuple[str, ...] = (
    "trunk", "head", "shoulders", "hips",
    "left_arm", "left_forearm", "left_thigh", "left_shank",
    "right_arm", "right_forearm", "right_thigh", "right_shank",
)  # fmt: skip
"""The bones of `assemble`. They point away from the pelvis; "shoulders" and "hips" from the person's right to left."""

GROUND = 0.965  # Height of the soles in the frame; the room above is for raised arms.
SOLE = 0.035  # From the ankle to the ground, in body heights.

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
        rng = random_numbers("appearance", seed)

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


def assemble(
    directions: Mapping[str, np.ndarray], shift: np.ndarray, lift: np.ndarray, appearance: Appearance
) -> np.ndarray:
    """The joints of this person with the bones pointing there: float32 (N, 15, 2) as in `JOINTS`.

    Args:
        directions: for each of `BONES` the part of its direction that lies in the image, (N, 2), x to the right and y
            down: of length 1 where the bone lies in the image plane, shorter where it points to or from the camera.
        shift, lift: (N,), how far the pelvis is from the middle of the frame, to the right of the image, and how far
            the lower foot is from the ground; in body heights.
    """
    # Lengths in body heights, our choice; from neck to chin it is 0.015.
    leg, head, width = appearance.leg_ratio, appearance.head_size, appearance.build**0.5
    trunk = 1 - leg - head - 0.015
    at = {"pelvis": np.zeros_like(directions["trunk"]), "neck": trunk * directions["trunk"]}
    at["head"] = at["neck"] + (0.015 + head / 2) * directions["head"]
    for side, sign in (("left", 1), ("right", -1)):
        wide = sign * width
        at[f"{side}_shoulder"] = (trunk - 0.035) * directions["trunk"] + 0.098 * wide * directions["shoulders"]
        at[f"{side}_elbow"] = at[f"{side}_shoulder"] + 0.178 * directions[f"{side}_arm"]
        at[f"{side}_wrist"] = at[f"{side}_elbow"] + 0.165 * directions[f"{side}_forearm"]
        at[f"{side}_hip"] = at["pelvis"] + 0.048 * wide * directions["hips"]
        at[f"{side}_knee"] = at[f"{side}_hip"] + (leg - SOLE) / 2 * directions[f"{side}_thigh"]
        at[f"{side}_ankle"] = at[f"{side}_knee"] + (leg - SOLE) / 2 * directions[f"{side}_shank"]
    xy = np.stack([at[name] for name in JOINTS], 1)
    # The lower foot stands on the ground, whatever the legs' lengths: bending both knees lowers the body.
    lowest = np.maximum(at["left_ankle"], at["right_ankle"])[:, 1:]
    xy[..., 1] -= lowest + SOLE + lift[:, None]
    xy[..., 0] += shift[:, None]
    xy = xy * appearance.height + [0.5, GROUND]
    # Sines differ in their last bit between machines; a coarse grid hides that, and `draw` rounds exactly everywhere.
    return (np.round(xy * 65536) / 65536).astype(np.float32)
