"""
Numbers that programs take as flags. One without a meaning is refused by name, in a sentence, before any work:

    parser.add_argument("--size", type=whole(1))
"""

import argparse
from collections.abc import Callable


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Type of a flag for a whole number from `low` to `high`, both included; None: as large as one likes."""
    limits = f"of at least {low}" if high is None else f"from {low} to {high}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limits}.")
        return value

    return read


SEED = whole(0, 2**32 - 1)  # what numpy takes
