"""The clips of a training run, from `--dataset` to the models' range."""

import hashlib
from pathlib import Path

import torch
from accelerate.logging import get_logger
from torch.utils.data import ConcatDataset

from divid_diffusers.data.held_out import PUPPETS_SEED
from divid_diffusers.data.pairing import Partners
from divid_diffusers.data.prepared import load_training_clips
from divid_diffusers.data.puppets import SETS, Puppets
from divid_diffusers.data.sampling import draw_clips, evenly_spaced


logger = get_logger(__name__)


def open_clips(args):
    """
    Training and validation clips, and the (channels, size) of their frames. No run sees a test clip. Sets joined by
    `+`, as in `datasets`, are one: each clip of each is as likely as any other.
    """
    opened = [open_set(name, args) for name in set_names(args.dataset)]
    train, held_out, shapes = zip(*opened)
    if len(set(shapes)) > 1:
        shown = ", ".join(f"{name} {shape}" for name, shape in zip(set_names(args.dataset), shapes))
        raise SystemExit(f"--dataset joins sets whose frames differ in (channels, size): {shown}. Prepare them alike.")
    if len(opened) == 1:
        return opened[0]
    return ConcatDataset(train), ConcatDataset(held_out), shapes[0]


def set_names(dataset: str) -> list[str]:
    return [dataset] if Path(dataset).exists() else dataset.split("+")


def open_set(name: str, args):
    if name in SETS:
        options = SETS[name] | {"num_frames": args.num_frames, "size": args.puppet_size}
        held_out = Puppets(args.num_validation_clips, PUPPETS_SEED, **options)
        return Puppets(args.num_puppets, **options), held_out, (3, held_out.size)
    try:
        train, held_out, sentence = load_training_clips(name)
    except ValueError as error:
        raise SystemExit(f"--dataset: {error}") from error
    height, width, channels = train.shape
    if height != width:
        raise SystemExit(f"The frames of {name} are {height}x{width}: the models take square ones.")
    if sentence:
        logger.warning(sentence)
    return train, held_out, (channels, height)


def partners(clips, args) -> Partners | None:
    """For `--pair_by`, which only DiViD's trainer has."""
    label = getattr(args, "pair_by", None)
    if label is None:
        return None
    if label not in getattr(clips, "labels", ()):
        known = ", ".join(getattr(clips, "labels", ())) or "none that is shared by clips"
        raise SystemExit(f"--pair_by {label}: the clips of {args.dataset} have no such label. They have {known}.")
    return Partners(clips.dataset.with_format(None)[label], args.labelled_share, args.seed)


def some_clips(clips, args, count: int) -> torch.Tensor:
    """Clips drawn from all over the set, the same in every run, frames evenly spaced: `(B, N, C, H, W)` in [-1, 1]."""
    return to_model_range(evenly_spaced(draw_clips(clips, count, seed=0), args.num_frames))


def to_model_range(frames: torch.Tensor) -> torch.Tensor:
    """Pixels in [-1, 1]; latents that were computed before are left as they are."""
    return frames.float() if frames.is_floating_point() else frames.float() / 127.5 - 1


def fingerprint(clips) -> str:
    """The same for the same clips, wherever they lie: of all labels and names, and of the pixels of a few."""
    if isinstance(clips, ConcatDataset):
        return " + ".join(fingerprint(each) for each in clips.datasets)
    if isinstance(clips, Puppets):
        kinds = {"start": clips.start, "varied_camera": clips.varied_camera, "size": clips.size != 64 and clips.size}
        return " ".join(["puppets", *(f"{name}={kind}" for name, kind in kinds.items() if kind)])
    names = [name for name in clips.dataset.column_names if name not in ("frames", "source")]
    told = hashlib.sha256(repr((len(clips), clips.shape, clips.labels)).encode())
    if names:
        told.update(repr(clips.dataset.select_columns(names)[:].to_pydict()).encode())
    for index in sorted({0, len(clips) // 2, len(clips) - 1}):
        told.update(clips[index]["frames"].numpy().tobytes())
    return told.hexdigest()[:16]
