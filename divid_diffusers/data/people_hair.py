"""Hair of rendered people: where it grows on the scalp, and how far it stands out. Places are those of the mean person
at rest, in metres, so that one hairline fits every head."""

from __future__ import annotations

import numpy as np

from .people_person import Person


THICKNESS: dict[str, float] = {
    "bald": 0.0, "cropped": 0.005, "short": 0.015, "quiff": 0.018, "curls": 0.038, "bob": 0.012, "long": 0.008,
}  # fmt: skip
"""How far the hair of each style stands out from the scalp, metres."""

ENDS: dict[str, float] = {"bob": 0.640, "long": 0.50}
"""Down to where long hair hangs."""


def step(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """From 0 below `low` to 1 above `high`, smoothly."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def above_hairline(places: np.ndarray, person: Person) -> np.ndarray:
    """How far places (V, 3) lie above the hairline, metres, (V,): over the forehead, past the ears, to the nape."""
    x, y, z = np.abs(places[:, 0]), places[:, 1], places[:, 2]
    front = 0.789 + 0.016 * person.hairline * (1 + step(0.015, 0.05, x)) - 3 * x * x
    line = front + (0.735 - front) * step(-0.115, -0.070, y)
    return z - (line + (0.645 - line) * step(-0.060, 0.0, y))


def thickness(places: np.ndarray, person: Person) -> np.ndarray:
    """How far hair stands out at places (V, 3), metres, (V,): 0 at its edge."""
    y, z = places[:, 1], places[:, 2]
    shape = THICKNESS[person.hair_style] * person.volume * step(-0.004, 0.02, above_hairline(places, person))
    if person.hair_style == "curls":
        return shape * (0.55 + 0.45 * step(0.68, 0.80, z))
    shape = shape * (0.12 + 0.88 * step(0.70, 0.80, z))
    return shape * (1 + 1.3 * step(-0.02, -0.10, y) * step(0.79, 0.83, z)) if person.hair_style == "quiff" else shape
