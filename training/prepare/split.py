"""Which clips are kept for test, and whether evaluation can use what is kept."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


DRAWS = 50  # looked through for a split without faults


def random_test_ids(
    clip_ids: Sequence[str], num_test: int, seed: int, labels: Mapping[str, Mapping[str, str]] | None = None
) -> set[str]:
    """
    `num_test` of the clips: the first of `numpy.random.RandomState(seed).permutation` of the sorted ids. Where
    `labels` of every clip are given and that leaves [`split_faults`], the generator's next permutations are tried too,
    and the first with the fewest faults is taken.
    """
    ids = sorted(clip_ids)
    if not 0 < num_test < len(ids):
        raise SystemExit(
            f"Cannot keep {num_test} of {len(ids)} clips for test: at least one must remain on each side."
        )
    random, best, fewest = np.random.RandomState(seed), set(), None
    for _ in range(DRAWS if labels else 1):
        test = {ids[i] for i in random.permutation(len(ids))[:num_test]}
        train_labels, test_labels = (
            ([labels[i] for i in ids if (i in test) is side] for side in (False, True)) if labels else ((), ())
        )
        faults = split_faults(train_labels, test_labels)
        if fewest is None or len(faults) < fewest:
            best, fewest = test, len(faults)
        if not faults:
            break
    return best


def num_test_clips(share: float, num_clips: int) -> int:
    """
    A share of the clips, but two at least where that leaves two for training: one clip cannot be swapped with
    anything.
    """
    return max(2 if num_clips >= 4 else 1, round(share * num_clips))


def split_faults(train: Iterable[Mapping], test: Iterable[Mapping]) -> list[str]:
    """What evaluation cannot measure on such a split, in sentences; clips are given by their labels."""
    train, test = list(train), list(test)
    faults = []
    if len(test) < 2:
        clips = "a single clip" if test else "no clip"
        faults.append(f"{clips} is kept for test: swaps need two. Keep more, or add clips.")
    for label in test[0] if test else ():
        seen, kept = (Counter(clip[label] for clip in clips) for clips in (train, test))
        if len(seen | kept) > 1 and len(kept) == 1 and len(test) > 1:
            faults.append(f"all test clips have one {label}: a swap cannot change it. Keep more clips for test.")
        unseen = [value for value in kept if seen[value] < 2]
        if unseen and len(seen | kept) > 1:
            faults.append(
                f"{len(unseen)} of {len(kept)} classes of {label} in test have fewer than two training clips: neither "
                "a judge nor "
                "a probe can learn them. Add clips of each."
            )
    return faults
