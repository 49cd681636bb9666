"""What callers hand to the puppets: seeds and whole numbers, refused in a sentence where they are something else."""

import operator
import random

import numpy as np


def random_numbers(purpose: str, seed: int) -> random.Random:
    """The stream of this seed for this purpose. Raises ValueError for a seed that is not a whole number."""
    try:
        # Python promises this stream (a string seed, then random()) across versions; numpy's Generator does not.
        return random.Random(f"puppets/{purpose}/{operator.index(seed)}")
    except TypeError:
        raise ValueError(f"The {purpose} seed of a puppet is {seed!r}: pass a whole number.") from None


def at_least(name: str, value: int, least: int) -> None:
    """Raises ValueError where `value`, named `name`, is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} is {value!r} in Puppets: pass a whole number of at least {least}.")
