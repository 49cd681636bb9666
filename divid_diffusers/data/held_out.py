"""
Which training clips are held out for validation, where a set does not say: a function of their names and labels alone,
so that a set that is prepared now and the same set from before there were validation clips hold out the same ones.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np


SHARE = 0.1  # of the training clips
DRAWS = 20  # looked through, as in training/prepare/split.py
PUPPETS_SEED = 1  # of those to validate on: other people and motions than those of seed 0, which are trained on
ENOUGH = 8  # training clips: of fewer, the two that a swap takes would be missed more than they tell


def num_validation_clips(num_train: int) -> int:
    """A tenth, but two at least, since one clip cannot be swapped with anything; none of fewer than `ENOUGH`."""
    return max(2, round(SHARE * num_train)) if num_train >= ENOUGH else 0


def validation_ids(labels: Mapping[Hashable, Mapping[str, Hashable]]) -> set:
    """
    Of the training clips, given by their ids with their labels, those to hold out, at random.

    What is held out must still be seen in training. So a clip is taken where each of its classes keeps two clips in
    training, and its classes together (this person with this action) keep one; where that gives too few, where each
    class keeps one; then, where its `identity` does. Empty where not even two clips can be spared. Of some draws the
    first is taken in which swaps can change every label.
    """
    ids, random = sorted(labels), np.random.RandomState(0)
    classes = num_classes(labels.values())
    best, most = set(), -1
    for _ in range(DRAWS):
        taken = spared([ids[i] for i in random.permutation(len(ids))], labels)
        found = num_classes(labels[clip] for clip in taken)
        changeable = sum(found.get(name, 0) > 1 for name in classes)
        if changeable > most:
            best, most = taken, changeable
        if most == sum(count > 1 for count in classes.values()):
            break
    return best


def num_classes(labels: Iterable[Mapping[str, Hashable]]) -> Counter:
    return Counter(name for name, _ in {each for clip in labels for each in clip.items()})


def spared(order: Sequence, labels: Mapping[Hashable, Mapping[str, Hashable]]) -> set:
    kept = Counter(group for clip in order for group in groups(labels[clip]))
    taken, wanted = set(), num_validation_clips(len(order))
    for least_of_class, least_together, names in ((2, 1, None), (1, 0, None), (1, 0, ("identity",))):
        for clip in order:
            if len(taken) == wanted:
                return taken
            together, *classes = groups(labels[clip])
            classes = [(name, value) for name, value in classes if names is None or name in names]
            if clip in taken or kept[together] <= least_together or any(kept[c] <= least_of_class for c in classes):
                continue
            taken.add(clip)
            kept.subtract(groups(labels[clip]))
    return taken if len(taken) > 1 else set()


def groups(labels: Mapping[str, Hashable]) -> list[tuple]:
    """What a clip is one of: its classes together, and each class."""
    return [tuple(labels.items()), *labels.items()]
