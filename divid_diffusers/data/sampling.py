"""
Which clips, and which of their frames, a training step sees: a function of (seed, epoch, index) and of nothing else.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from .pairing import Partners


FRAME_SAMPLING = ("random", "uniform", "contiguous", "strided")


def sample_frame_indices(
    available: int, num_frames: int, rng: np.random.Generator | None = None, how: str = "random"
) -> np.ndarray:
    """
    Indices `(num_frames,)`, never descending.

    Without `rng`, for evaluation: evenly spaced from the first frame to the last. With it, for training, `how` is

    - `"random"`: drawn without replacement, the paper's way;
    - `"uniform"`: one from each of `num_frames` equal parts of the clip;
    - `"contiguous"`: neighbours, from a random start;
    - `"strided"`: a constant step, the largest that fits, from a random start.

    A clip shorter than `num_frames` has frames repeated: drawn with replacement by `"random"`, evenly by `"uniform"`
    and without `rng`, the last one held by the other two. Raises ValueError for another `how` and for numbers below 1.
    """
    if available < 1 or num_frames < 1:
        raise ValueError(f"Cannot take {num_frames} frames of a clip of {available}: both must be at least 1.")
    if how not in FRAME_SAMPLING:
        raise ValueError(f"Unknown frame sampling {how!r}: choose one of {', '.join(FRAME_SAMPLING)}.")
    if rng is None:
        return np.linspace(0, available - 1, num_frames).round().astype(int)
    if how == "random":
        return np.sort(rng.choice(available, num_frames, replace=available < num_frames))
    if how == "uniform":
        edges = np.arange(num_frames + 1) * available // num_frames
        return rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1))
    step = max(1, available // num_frames) if how == "strided" else 1
    last_start = max(0, available - 1 - step * (num_frames - 1))
    return np.minimum(rng.integers(last_start + 1) + step * np.arange(num_frames), available - 1)


def draw_clips(clips, count: int, seed: int) -> list[dict]:
    """
    `count` clips, or all there are, in the order of the set. At random: sets are sorted, and every n-th clip of one
    may always be the same action.
    """
    chosen = np.random.default_rng(seed).choice(len(clips), min(count, len(clips)), replace=False)
    return [clips[int(index)] for index in np.sort(chosen)]


def evenly_spaced(clips: Iterable[dict], num_frames: int) -> torch.Tensor:
    """The clips cut to `num_frames`, `(B, N, C, H, W)` uint8."""
    whole = (clip["frames"] for clip in clips)
    return torch.stack([frames[sample_frame_indices(len(frames), num_frames)] for frames in whole])


class SampledClips(Dataset):
    """
    Clips cut to `num_frames` at random, anew in every epoch. Item `epoch * len(clips) + index` is clip `index` as
    epoch `epoch` sees it, so that the data carries no state that a resumed run would have to restore.

    Args:
        clips: a sequence of dicts whose `frames` is a uint8 tensor `(F, C, H, W)`.
        num_frames (`int`): N.
        seed (`int`): of the frame choice.
        how (`str`): which frames, see [`sample_frame_indices`].
        partners: if given, an item is a clip and a partner, each cut for itself: `(2, N, C, H, W)`.
    """

    def __init__(
        self,
        clips: Sequence[dict],
        num_frames: int,
        seed: int = 0,
        how: str = "random",
        partners: Partners | None = None,
    ):
        self.clips, self.num_frames, self.seed, self.how, self.partners = clips, num_frames, seed, how, partners

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, position: int) -> torch.Tensor:
        epoch, index = divmod(position, len(self.clips))
        rng = np.random.default_rng((self.seed, epoch, index))
        clip = self.cut(index, rng)
        if self.partners is None:
            return clip
        return torch.stack([clip, self.cut(self.partners.draw(index, rng), rng)])

    def cut(self, index: int, rng: np.random.Generator) -> torch.Tensor:
        frames = self.clips[index]["frames"]
        return frames[sample_frame_indices(len(frames), self.num_frames, rng, self.how)]


class ResumableBatchSampler(Sampler[list[int]]):
    """
    An endless sequence of shuffled batches of positions for [`SampledClips`], starting anywhere. All processes walk
    through one permutation per epoch; process `rank` of `world_size` takes every `world_size`-th batch, so two
    processes of batch B see, step by step, the clips that one process of batch 2 B sees.

    Args:
        num_clips (`int`): clips in the set.
        batch_size (`int`): per process.
        seed (`int`): of the order.
        rank, world_size (`int`): this process, and how many there are.
        first_batch (`int`): batches (of each process) already seen.
    """

    def __init__(
        self, num_clips: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1, first_batch: int = 0
    ):
        self.num_clips, self.batch_size, self.seed = num_clips, batch_size, seed
        self.rank, self.world_size, self.first_batch = rank, world_size, first_batch

    def __iter__(self) -> Iterator[list[int]]:
        batch = self.first_batch
        epoch, order = -1, np.empty(0, dtype=int)
        while True:
            start = (batch * self.world_size + self.rank) * self.batch_size
            positions = []
            for position in range(start, start + self.batch_size):
                if position // self.num_clips != epoch:
                    epoch = position // self.num_clips
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.num_clips)
                positions.append(epoch * self.num_clips + int(order[position % self.num_clips]))
            yield positions
            batch += 1
