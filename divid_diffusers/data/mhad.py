"""UTD-MHAD depth clips (Chen, Jafari and Kehtarnavaz, ICIP 2015) from a packed zip of 64x64 uint8 arrays."""

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset


NUM_TEST_CLIPS = 103  # fits the accuracies of the paper's Table 1
MEMBER = re.compile(r"a(\d+)_s(\d+)_t(\d+)_depth\.npy$")


class MHADDepth(Dataset):
    """
    Whole depth clips, held in memory (about 250 MB for all 861).

    The zip holds members `a{action}_s{subject}_t{trial}_depth.npy`, uint8 `(F, 64, 64)`, background 0. The split is by clip,
    as a swap is judged by the identity of subjects seen in training: `numpy.random.RandomState(0).permutation` of the sorted
    names, the first 103 for test (our choice; the paper gives none).

    Args:
        path: the zip file.
        split (`str`): `"train"` or `"test"`.

    An item is a dict: `frames` uint8 tensor `(F, 1, 64, 64)`, `identity` 0..7, `action` 0..26, `clip_id` such as
    `a1_s1_t1`.
    """

    def __init__(self, path: str | Path, split: str = "train"):
        if split not in ("train", "test"):
            raise ValueError(f"`split` is {split!r}: choose 'train' or 'test'.")
        try:
            with zipfile.ZipFile(path) as archive:
                names = sorted(name for name in archive.namelist() if MEMBER.search(name))
                if len(names) <= NUM_TEST_CLIPS:
                    raise ValueError(
                        f"{path} holds {len(names)} members named like 'a1_s1_t1_depth.npy', too few to keep {NUM_TEST_CLIPS} "
                        "for test: is it the packed depth set?"
                    )
                order = np.random.RandomState(0).permutation(len(names))
                chosen = order[:NUM_TEST_CLIPS] if split == "test" else order[NUM_TEST_CLIPS:]
                self.clips = [self._read(archive, names[index]) for index in sorted(chosen)]
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"There is no depth archive at {path}: pass the path of the packed zip."
            ) from error
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} is not a zip file, or it is damaged: copy or download it again.") from error

    @staticmethod
    def _read(archive: zipfile.ZipFile, name: str) -> dict:
        frames = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
        if frames.ndim != 3 or frames.dtype != np.uint8 or len(frames) == 0:
            raise ValueError(
                f"{name} in {archive.filename} is {frames.dtype} {frames.shape}, but must be uint8 (F, H, W)."
            )
        action, subject, trial = map(int, MEMBER.search(name).groups())
        return {
            "frames": torch.from_numpy(frames)[:, None],
            "identity": subject - 1,
            "action": action - 1,
            "clip_id": f"a{action}_s{subject}_t{trial}",
        }

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict:
        return self.clips[index]
