"""Which clips, and which of their frames, a training step sees: a function of (seed, epoch, index) and of nothing else."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler


def sample_frame_indices(available: int, num_frames: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """
    Indices `(num_frames,)`, ascending. With `rng`: drawn at random without replacement, the paper's way; without: evenly
    spaced from the first frame to the last, for evaluation. A clip shorter than `num_frames` has frames repeated.
    """
    if available < 1 or num_frames < 1:
        raise ValueError(f"Cannot take {num_frames} frames of a clip of {available}: both must be at least 1.")
    if rng is None:
        return np.linspace(0, available - 1, num_frames).round().astype(int)
    return np.sort(rng.choice(available, num_frames, replace=available < num_frames))


class SampledClips(Dataset):
    """
    Clips cut to `num_frames` at random, anew in every epoch. Item `epoch * len(clips) + index` is clip `index` as epoch
    `epoch` sees it, so that the data carries no state that a resumed run would have to restore.

    Args:
        clips: a sequence of dicts whose `frames` is a uint8 tensor `(F, C, H, W)`.
        num_frames (`int`): N.
        seed (`int`): of the frame choice.
    """

    def __init__(self, clips: Sequence[dict], num_frames: int, seed: int = 0):
        self.clips, self.num_frames, self.seed = clips, num_frames, seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, position: int) -> torch.Tensor:
        epoch, index = divmod(position, len(self.clips))
        frames = self.clips[index]["frames"]
        rng = np.random.default_rng((self.seed, epoch, index))
        return frames[sample_frame_indices(len(frames), self.num_frames, rng)]


class ResumableBatchSampler(Sampler[list[int]]):
    """
    An endless sequence of shuffled batches of positions for [`SampledClips`], starting anywhere. All processes walk through
    one permutation per epoch; process `rank` of `world_size` takes every `world_size`-th batch, so two processes of batch B
    see, step by step, the clips that one process of batch 2 B sees.

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
