"""A run on latents: its autoencoder, how its latents are scaled, and where they are kept once computed."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm

from divid_diffusers.models.modeling_utils import loading_from
from divid_diffusers.pipelines.latents import (
    AUTOENCODERS,
    latent_channels,
    scale_factor,
    standardise,
    statistics,
    to_latents,
)

from .checkpoints import all_finite
from .clips import fingerprint, some_clips


ABOUT, CLIPS_PER_FILE = "about.json", 64


def load_vae(name_or_path: str) -> torch.nn.Module:
    """An autoencoder, of a folder or repository of its own or of a pipeline's; in float32, and not to be trained."""
    source = os.path.expanduser(name_or_path)
    in_pipeline = {"subfolder": "vae"} if os.path.isdir(os.path.join(source, "vae")) else {}
    try:
        with loading_from(source):
            try:
                config = AutoencoderKL.load_config(source, **in_pipeline)
            except OSError:
                if in_pipeline or os.path.isdir(source):
                    raise
                in_pipeline = {"subfolder": "vae"}
                config = AutoencoderKL.load_config(source, **in_pipeline)
            kinds = {kind.__name__: kind for kind in AUTOENCODERS}
            if config.get("_class_name") not in kinds:
                raise ValueError(f"it holds a {config.get('_class_name')}, and not one of {', '.join(kinds)}")
            vae = kinds[config["_class_name"]].from_pretrained(source, torch_dtype=torch.float32, **in_pipeline)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SystemExit(f"--pretrained_vae: {name_or_path} is no autoencoder that can be loaded: {reason}") from error
    if not all_finite(vae.state_dict().values()):
        raise SystemExit(f"--pretrained_vae: the weights in {name_or_path} are not finite. Take other ones.")
    return vae.eval().requires_grad_(False)


@dataclass
class Latents:
    """`statistics` are `latents_mean` and `latents_std` of [`DiViDPipeline`]: none, and the own factors are all."""

    vae: torch.nn.Module
    statistics: dict[str, Sequence[float]] = field(default_factory=dict)

    def shape_of(self, frame_shape: tuple[int, int], dataset: str) -> tuple[int, int]:
        """(channels, size) of the latents of such frames. Stops where the autoencoder does not take them."""
        (channels, size), factor = frame_shape, scale_factor(self.vae)
        if channels not in (1, self.vae.config.in_channels):  # grey is given as RGB
            raise SystemExit(
                f"The autoencoder takes frames of {self.vae.config.in_channels} channel(s), and {dataset} has "
                f"{channels}: take another autoencoder, or prepare the clips anew."
            )
        if size % factor:
            raise SystemExit(
                f"The frames of {dataset} have {size} pixels a side, and latents are {factor} times smaller: prepare "
                f"the clips anew, with a multiple of {factor}."
            )
        return latent_channels(self.vae), size // factor

    @torch.no_grad()
    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """Latents `(..., c, h, w)` of clips `(..., C, H, W)` in [-1, 1]."""
        frames = clips.flatten(0, -4).expand(-1, self.vae.config.in_channels, -1, -1)
        return to_latents(self.vae, frames, **self.statistics).unflatten(0, clips.shape[:-3])


def measured_latents(vae: torch.nn.Module, train_clips, args) -> Latents:
    """Scaled by the latents of some training clips, the same in every run."""
    latents = Latents(vae)
    found = torch.cat([latents.encode(clip) for clip in some_clips(train_clips, args, count=64)])
    return Latents(vae, statistics(found))


# --- latents that are computed once --------------------------------------------------------------------------------


class CachedLatents(torch.utils.data.Dataset):
    """Item `index` of the clips as a dict with `frames`, float32 latents `(F, c, h, w)`."""

    def __init__(self, folder: Path, num_clips: int, latents: Latents):
        self.folder, self.num_clips, self.statistics = folder, num_clips, latents.statistics

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> dict:
        with safe_open(file_of(self.folder, index // CLIPS_PER_FILE), "pt") as file:
            latents = file.get_tensor(str(index)).float()
        return {"frames": standardise(latents, **self.statistics) if self.statistics else latents}


def cached_latents(folder: Path, clips, latents: Latents, device: torch.device) -> CachedLatents:
    """
    The latents of all frames of the clips, in half precision, from `folder`, and what is not there yet is computed
    into it: file by file, each whole or not at all, so that a run that was stopped goes on where it was. Stops where
    the folder holds latents of other clips or of another autoencoder, or a damaged file.
    """
    about = {"clips": clips_told(clips), "num_clips": len(clips), "autoencoder": autoencoder_told(latents.vae)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        open_cache(folder, about)
        raw, numbers = Latents(latents.vae.to(device)), range(0, len(clips), CLIPS_PER_FILE)
        missing = [first for first in numbers if not is_there(folder, first, len(clips))]
        for first in tqdm(missing, desc="encoding", unit="file", disable=not missing):
            some = range(first, min(first + CLIPS_PER_FILE, len(clips)))
            found = {str(index): encoded(raw, clips[index]["frames"], device) for index in some}
            write_whole(folder, first // CLIPS_PER_FILE, found)
    except (OSError, SafetensorError) as error:  # a full disk is the latter
        raise SystemExit(
            f"--cache_latents {folder} cannot be written to: {error}. Make room, and start again."
        ) from error
    return CachedLatents(folder, len(clips), latents)


def encoded(latents: Latents, frames: torch.Tensor, device: torch.device) -> torch.Tensor:
    return latents.encode(frames.to(device).float() / 127.5 - 1).half().cpu().contiguous()


def open_cache(folder: Path, about: dict) -> None:
    file = folder / ABOUT
    if not file.is_file():
        if any(folder.iterdir()):
            raise SystemExit(f"--cache_latents {folder} holds other files: give a folder of its own.")
        partial = file.with_name(f".partial-{ABOUT}")
        partial.write_text(json.dumps(about, indent=2) + "\n")
        partial.replace(file)
        return
    try:
        told = json.loads(file.read_text())
    except ValueError:
        told = {}
    differs = [name for name, value in about.items() if told.get(name) != value]
    if differs:
        what = "another autoencoder" if differs == ["autoencoder"] else "other clips"
        raise SystemExit(
            f"--cache_latents {folder} holds the latents of {what}: give another folder, or delete this one."
        )


def file_of(folder: Path, number: int) -> Path:
    return folder / f"latents-{number:05d}.safetensors"


def is_there(folder: Path, first: int, num_clips: int) -> bool:
    """Whether the file that begins with this clip is. Stops where it is damaged."""
    path = file_of(folder, first // CLIPS_PER_FILE)
    if not path.is_file():
        return False
    wanted = {str(index) for index in range(first, min(first + CLIPS_PER_FILE, num_clips))}
    try:
        with safe_open(path, "pt") as file:
            whole = set(file.keys()) == wanted
    except SafetensorError:
        whole = False
    if not whole:
        raise SystemExit(f"{path} is damaged: delete it, and start again; its latents are then computed anew.")
    return True


def write_whole(folder: Path, number: int, latents: dict[str, torch.Tensor]) -> None:
    partial = folder / f".partial-{number}-{os.getpid()}"
    try:
        save_file(latents, partial)
        shutil.copymode(folder / ABOUT, partial)  # safetensors writes for the owner alone
        partial.replace(file_of(folder, number))
    finally:
        partial.unlink(missing_ok=True)


def clips_told(clips) -> str:
    """The first clip, too: of a set that is drawn the fingerprint says neither length nor size."""
    frames = clips[0]["frames"]
    return hashlib.sha256(
        f"{fingerprint(clips)} {tuple(frames.shape)}".encode() + frames.numpy().tobytes()
    ).hexdigest()


def autoencoder_told(vae: torch.nn.Module) -> str:
    config = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    told = hashlib.sha256(repr(sorted(config.items())).encode())
    for _, weight in sorted(vae.state_dict().items()):
        told.update(weight.cpu().contiguous().numpy().tobytes())
    return told.hexdigest()
