"""
Weak supervision: which clips are known to show the same person, or the same action, and so may give each other's token
(our choice; the paper names weak supervision as future work).
"""

from collections.abc import Sequence

import numpy as np


class Partners:
    """
    For every clip another one of the same class.

    Args:
        classes: of each clip.
        share (`float`): of the clips whose class is known, 0 to 1, drawn by `seed`. The others, and a clip that is
            alone in its class, have no partner but themselves.
    """

    def __init__(self, classes: Sequence[int], share: float = 1.0, seed: int = 0):
        known = np.random.default_rng(seed).permutation(len(classes))[: round(share * len(classes))]
        self.of_class: dict[int, list[int]] = {}
        for index in np.sort(known):
            self.of_class.setdefault(classes[index], []).append(int(index))
        self.class_of = {index: members for members in self.of_class.values() for index in members}

    def draw(self, index: int, rng: np.random.Generator) -> int:
        """A partner of clip `index`, never itself where there is another."""
        others = [other for other in self.class_of.get(index, ()) if other != index]
        return int(rng.choice(others)) if others else index
