"""The clip schema of every prepared set, and its clips as training reads them.

A prepared set is a `datasets.DatasetDict` that `training/prepare/*.py` writes, with the splits `train`; `validation`,
on which every choice is made; and `test`, which is measured once at the end. Its columns are

- `frames`: uint8 `(N, H, W, C)`, RGB or grey, the whole clip; N differs from clip to clip.
- any static or dynamic label the set has, each a `ClassLabel`: `identity`, `action`, `body`, ...
- `clip_id`: a name of its own for each clip; `source`: the file it was read from.

The frames are lists of fixed length in Arrow, so a set takes on disk what its pixels take and is memory-mapped.
`datasets` knows such lists (`np.array(row["frames"], np.uint8)` is a clip) but walks them pixel by pixel;
[`PreparedClips`] takes the pixels from Arrow's buffer as they lie there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value, load_dataset, load_from_disk

from .held_out import validation_ids


def clip_features(height: int, width: int, channels: int, labels: Mapping[str, Sequence[str]]) -> Features:
    """The schema of a set with frames of this size; `labels` maps each label to the names of its classes."""
    pixel = List(Value("uint8"), length=channels)
    frames = List(List(List(pixel, length=width), length=height))
    classes = {name: ClassLabel(names=list(names)) for name, names in labels.items()}
    return Features({"frames": frames, **classes, "clip_id": Value("string"), "source": Value("string")})


def frame_shape(features: Features) -> tuple[int, int, int]:
    """
    (height, width, channels) of a set's frames. Raises ValueError where the set does not have this module's schema.
    """
    try:
        rows = features["frames"].feature
        height, width, channels = rows.length, rows.feature.length, rows.feature.feature.length
        is_uint8 = rows.feature.feature.feature.dtype == "uint8"
    except (KeyError, AttributeError):
        is_uint8 = False
    if not is_uint8 or min(height, width) < 1 or channels not in (1, 3):
        raise ValueError(
            "This is not a prepared set: it has no column `frames` of uint8 (N, H, W, C). Make one with "
            "training/prepare/*.py."
        )
    return height, width, channels


def clips_to_arrow(clips: Sequence[np.ndarray]) -> pa.Array:
    """Clips `(N, H, W, C)` uint8, all of one H, W and C, as the column `frames`."""
    array = pa.array(np.concatenate([clip.reshape(-1) for clip in clips]))
    for length in reversed(clips[0].shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, length)
    ends = np.cumsum([0] + [len(clip) for clip in clips], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), array)


def arrow_to_clip(table: pa.Table, shape: tuple[int, int, int]) -> np.ndarray:
    """The clip `(N, H, W, C)` of a table of one row, a read-only view of Arrow's memory."""
    values = table["frames"].combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0)
    for _ in range(4):
        values = values.flatten()
    return values.to_numpy().reshape(-1, *shape)


class PreparedClips(torch.utils.data.Dataset):
    """
    One split of a prepared set: whole clips, memory-mapped.

    Args:
        dataset (`datasets.Dataset`): a split; see [`load_clips`].

    An item is a dict: `frames`, uint8 tensor `(N, C, H, W)`; every label as a number; `clip_id`; `source`.
    Raises ValueError where the data set does not have the schema, or is empty.
    """

    def __init__(self, dataset: Dataset):
        self.shape = frame_shape(dataset.features)
        if len(dataset) == 0:
            raise ValueError("This split of the prepared set has no clips.")
        self.dataset = dataset.with_format("arrow")
        self.labels = {n: feature.names for n, feature in dataset.features.items() if isinstance(feature, ClassLabel)}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        row = self.dataset[index]
        frames = torch.from_numpy(arrow_to_clip(row, self.shape).transpose(0, 3, 1, 2).copy())
        return {"frames": frames} | {n: row[n][0].as_py() for n in row.column_names if n != "frames"}


def load_clips(name_or_path: str, split: str) -> PreparedClips:
    """
    A split of a prepared set from a folder that `training/prepare/*.py` wrote or, where there is no such folder, from
    a data set of the same schema on the Hub. Raises ValueError, in a sentence, for anything else.
    """
    splits = load_splits(name_or_path)
    if split not in splits:
        there = f", only {' and '.join(splits)}: prepare it anew" if splits else ""
        raise ValueError(f"{name_or_path} has no split {split!r}{there or ': it is no prepared set'}.")
    return PreparedClips(splits[split])


def load_training_clips(name_or_path: str) -> tuple[PreparedClips, PreparedClips, str]:
    """
    The clips to train on, those to choose by, and a sentence where the set does not say which these are: one from
    before there were validation clips, or of a few clips. Then some training clips are held out, the same in every run
    (see [`validation_ids`]); where none can be spared, both are the training clips. Test clips are never touched.
    Raises ValueError as [`load_clips`].
    """
    train = load_clips(name_or_path, "train")
    splits = load_splits(name_or_path)
    if "validation" in splits:
        return train, PreparedClips(splits["validation"]), ""
    rows = train.dataset.with_format(None)
    ids = rows["clip_id"][:] if "clip_id" in rows.column_names else range(len(rows))
    labels = rows.select_columns(list(train.labels)).to_list() if train.labels else [{}] * len(rows)
    chosen = validation_ids(dict(zip(ids, labels)))
    if not chosen:
        sentence = f"{name_or_path} has no validation clips, and of {len(rows)} training clips none can be spared:"
        return train, train, f"{sentence} pictures and figures are of clips that are trained on."
    held_out = [place for place, clip in enumerate(ids) if clip in chosen]
    others = [place for place, clip in enumerate(ids) if clip not in chosen]
    sentence = (
        f"{name_or_path} has no validation clips: {len(held_out)} of {len(rows)} training clips take their place."
    )
    return PreparedClips(rows.select(others)), PreparedClips(rows.select(held_out)), sentence


def load_splits(name_or_path: str) -> Mapping[str, Dataset]:
    if Path(name_or_path).exists():
        try:
            dataset = load_from_disk(name_or_path)
        except (FileNotFoundError, OSError, ValueError) as error:
            raise ValueError(f"{name_or_path} is not a prepared set: make one with training/prepare/*.py.") from error
    else:
        try:
            dataset = load_dataset(name_or_path)
        except Exception as error:  # `datasets` and the Hub raise many kinds
            raise ValueError(
                f"There is no folder {name_or_path}, and no data set of that name could be loaded from the Hub "
                f"({error})."
            ) from error
    return dataset if isinstance(dataset, DatasetDict) else {}
