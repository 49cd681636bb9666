"""Who a rendered person is: shape, skin, hair, eyes, clothes, background and light. Nothing in here moves."""

from __future__ import annotations

import colorsys
import operator
import random
from dataclasses import dataclass

from .puppet_body import RGB


SKINS: dict[str, str] = {
    "pale": "f3d3c1", "light": "e8b894", "olive": "c99a6b", "brown": "9a6540", "dark": "70492f", "deep": "513325",
}  # fmt: skip
HAIR_STYLES: tuple[str, ...] = ("bald", "cropped", "short", "quiff", "curls", "bob", "long")
BEARDS: tuple[str, ...] = ("none", "stubble", "moustache", "goatee", "full")
HAIRS = ("0d0b0a", "2a1a12", "56351c", "8e4a1f", "c99a4e", "e2cf9a", "8d8d90", "d8d8d8", "a3301f")
EYES = ("2b1a10", "4e3018", "6b5a2a", "4d7a4a", "4f7fae", "7f8f9a")
BOTH_SIDES: tuple[str, ...] = (
    "cheek-volume-incr", "cheek-bones-incr", "cheek-inner-incr", "ear-scale-incr", "ear-wing-incr",
    "eye-scale-incr", "eye-height2-incr", "eye-corner1-up", "eye-corner2-up", "eye-trans-out", "eye-epicanthus-out",
    "eye-bag-incr", "eye-eyefold-up",
)  # fmt: skip
ALONE: tuple[str, ...] = (
    "head-fat-incr", "head-scale-horiz-incr", "head-scale-vert-incr", "forehead-scale-vert-incr",
    "forehead-trans-forward", "forehead-temple-incr", "eyebrows-trans-up", "eyebrows-angle-up",
    "nose-scale-horiz-incr", "nose-scale-vert-incr", "nose-scale-depth-incr", "nose-volume-incr", "nose-hump-incr",
    "nose-point-up", "nose-point-width-incr", "nose-width2-incr", "nose-nostrils-width-incr",
    "mouth-scale-horiz-incr", "mouth-upperlip-volume-incr", "mouth-lowerlip-volume-incr", "mouth-angles-up",
    "mouth-trans-up", "chin-height-incr", "chin-width-incr", "chin-prominent-incr", "chin-jaw-drop-incr",
    "chin-cleft-incr", "neck-scale-horiz-incr", "neck-double-incr",
)  # fmt: skip
"""Anny's local changes of the face that people differ in, of both sides alike or of the middle."""


def random_numbers(purpose: str, seed: int) -> random.Random:
    """The stream of this seed for this purpose. Raises ValueError for a seed that is not a whole number."""
    try:
        # Python promises this stream (a string seed, then random()) across versions.
        return random.Random(f"people/{purpose}/{operator.index(seed)}")
    except TypeError:
        raise ValueError(f"The {purpose} seed of a rendered person is {seed!r}: pass a whole number.") from None


def rgb(code: str, shade: float = 1.0) -> RGB:
    red, green, blue = (min(1.0, int(code[i : i + 2], 16) / 255 * shade) for i in (0, 2, 4))
    return red, green, blue


@dataclass(frozen=True)
class Person:
    """Who is seen; colours are sRGB in [0, 1].

    `phenotype` and `changes` are Anny's shape parameters. `skin_tone`, `hair_style` and `beard` are of [`SKINS`],
    [`HAIR_STYLES`] and [`BEARDS`]. `freckles` and `hairline` (how far it recedes) are from 0 to 1, `volume` and `brow`
    are how thick hair and brows are (1: usual), `brow_height` is from -1 to 1, `neckline` from 0 (round) to 1 (deep).
    The wall behind goes from `background` to `background_low`, in the way that `pattern`, from 0 to 1, picks. `light`
    is (to the person's left, up, to the camera), a direction; `warmth` its colour, from -1 (blue) to 1 (yellow);
    `contrast` the share of light that comes from there. `zoom` and `shift` are of the camera: how large the person is
    and where, in frames.
    """

    phenotype: dict[str, float]
    changes: dict[str, float]
    skin_tone: str
    skin: RGB
    lips: RGB
    freckles: float
    eyes: RGB
    hair_style: str
    hair: RGB
    hairline: float
    volume: float
    brow: float
    brow_height: float
    beard: str
    clothes: RGB
    trim: RGB
    neckline: float
    trousers: RGB
    shoes: RGB
    background: RGB
    background_low: RGB
    pattern: float
    light: tuple[float, float, float]
    warmth: float
    contrast: float
    zoom: float
    shift: tuple[float, float]

    @classmethod
    def sample(cls, seed: int) -> Person:
        """The person with this seed, any integer: the same on every machine. Raises ValueError for other seeds."""
        rng = random_numbers("person", seed)

        def pick(choices):
            return choices[int(rng.random() * len(choices))]

        def colour(saturation: tuple[float, float], value: tuple[float, float]) -> RGB:
            return colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))

        gender = rng.choice((rng.uniform(0.0, 0.2), rng.uniform(0.8, 1.0)))  # 0 is male in Anny
        male = gender < 0.5
        age = rng.uniform(0.62, 1.0)  # adults only: 2/3 is young, 1 old
        tone = pick(tuple(SKINS))
        region = {name: rng.random() ** 3 for name in ("african", "asian", "caucasian")}
        region["african" if tone in ("brown", "dark", "deep") else pick(("asian", "caucasian"))] += 0.8
        phenotype = {
            "gender": gender, "age": age, "muscle": rng.uniform(0.3, 0.8), "weight": rng.uniform(0.2, 0.95),
            "height": 0.5, "proportions": 0.5, **region,
        }  # fmt: skip
        changes = {name: min(0.7, max(-0.7, rng.gauss(0, 0.33))) for name in ALONE}
        for name in BOTH_SIDES:
            changes |= dict.fromkeys((f"l-{name}", f"r-{name}"), min(0.7, max(-0.7, rng.gauss(0, 0.33))))
        skin = rgb(SKINS[tone], rng.uniform(0.92, 1.06))
        old = age > 0.9
        hair = rgb("b9b9bb" if old and rng.random() < 0.6 else pick(HAIRS[:6] + HAIRS[8:]), rng.uniform(0.85, 1.15))
        if tone in ("dark", "deep", "brown") and not old:
            hair = rgb(pick(HAIRS[:3]), rng.uniform(0.85, 1.15))
        red = rng.uniform(0.0, 0.55) * (0.4 if male else 1.0)
        lips = (
            skin[0] * (0.86 - 0.1 * red) + 0.06 * red,
            skin[1] * (0.62 - 0.35 * red),
            skin[2] * (0.64 - 0.3 * red),
        )
        below = random_numbers("trousers", seed)
        trousers, shoes = (
            colorsys.hsv_to_rgb(below.random(), below.uniform(0.1, 0.8), below.uniform(0.12, 0.85)) for _ in range(2)
        )
        background, clothes = colour((0.05, 0.6), (0.15, 0.95)), colour((0.1, 0.9), (0.12, 0.95))
        dim = rng.uniform(0.35, 1.0)
        return cls(
            phenotype, changes, tone, skin, lips,
            freckles=max(0.0, rng.uniform(-1.5, 1.0)) if tone in ("pale", "light") else 0.0,
            eyes=rgb(pick(EYES if tone in ("pale", "light", "olive") else EYES[:3])),
            hair_style=pick(HAIR_STYLES[:5] if male and rng.random() < 0.85 else HAIR_STYLES[2:]),
            hair=hair,
            hairline=rng.uniform(0.0, 1.0) * (1.0 if male else 0.3),
            volume=rng.uniform(0.7, 1.35),
            brow=rng.uniform(0.8, 1.6) if male else rng.uniform(0.5, 1.1),
            brow_height=rng.uniform(-1.0, 1.0),
            beard=pick(BEARDS) if male else "none",
            clothes=clothes, trim=colour((0.0, 0.9), (0.1, 0.95)), neckline=rng.random(),
            trousers=trousers, shoes=shoes,
            background=background,
            background_low=tuple(channel * dim for channel in background), pattern=rng.random(),
            light=(rng.choice((-1, 1)) * rng.uniform(0.15, 1.0), rng.uniform(0.2, 0.9), rng.uniform(0.6, 1.0)),
            warmth=rng.uniform(-0.6, 1.0), contrast=rng.uniform(0.45, 0.8),
            zoom=rng.uniform(0.94, 1.06), shift=(rng.uniform(-0.03, 0.03), rng.uniform(-0.02, 0.02)),
        )  # fmt: skip
