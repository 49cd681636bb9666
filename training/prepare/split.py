"""Which clips are kept for test and for validation, and whether evaluation can use what is kept."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from divid_diffusers.data.held_out import validation_ids


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


def hold_out_validation(clips: Sequence, labels: Mapping[str, Mapping[str, str]] | None = None) -> tuple[list, str]:
    """
    The `preparation.Clip`s with some of their training clips held out, see [`validation_ids`], and the rule in words.
    All as it was, where some are held out already. `labels` by id are looked at in place of the clips' own.
    """
    if any(clip.split == "validation" for clip in clips):
        return list(clips), ""
    train = [clip for clip in clips if clip.split == "train"]
    chosen = validation_ids({clip.clip_id: (labels or {}).get(clip.clip_id, clip.labels) for clip in train})
    if not chosen:
        return list(clips), f"; no validation clips, since {len(train)} training clips can spare none"
    held_out = [replace(clip, split="validation") if clip.clip_id in chosen else clip for clip in clips]
    return held_out, f"; {len(chosen)} of the others for validation, so that training keeps their classes"


def split_faults(train: Iterable[Mapping], held_out: Iterable[Mapping], split: str = "test") -> list[str]:
    """What evaluation cannot measure on such a split, in sentences; clips are given by their labels."""
    train, held_out = list(train), list(held_out)
    faults = []
    if not held_out and split == "validation":
        return ["no clip is kept for validation: training will show how it does on clips that it learns. Add clips."]
    if len(held_out) < 2:
        clips = "a single clip" if held_out else "no clip"
        faults.append(f"{clips} is kept for {split}: swaps need two. Keep more, or add clips.")
    for label in held_out[0] if held_out else ():
        seen, kept = (Counter(clip[label] for clip in clips) for clips in (train, held_out))
        if len(seen | kept) > 1 and len(kept) == 1 and len(held_out) > 1:
            faults.append(f"all {split} clips have one {label}: a swap cannot change it. Keep more clips for {split}.")
        unseen = [value for value in kept if seen[value] < 2]
        if unseen and len(seen | kept) > 1:
            faults.append(
                f"{len(unseen)} of {len(kept)} classes of {label} in {split} have fewer than two training clips: "
                "neither a judge nor a probe can learn them. Add clips of each."
            )
    return faults
