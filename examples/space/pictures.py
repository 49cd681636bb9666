"""What is shown: example clips, previews, and results put side by side. Clips are uint8 `(N, H, W, 3)`."""

import base64
import io
import logging
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from uploads import Refused, read_upload

from divid_diffusers import export_clip
from divid_diffusers.evaluation.routing_maps import routing_strip


GAP, GREY = 2, 128  # pixels between cells, and their colour: white would glare on a dark page, black on a light one


class Example(NamedTuple):
    """A name for people, two files, the clip, its rate, and a picture of it to choose it by, as HTML."""

    name: str
    clip: str
    image: str
    frames: np.ndarray
    fps: float
    thumbnail: str


def read_examples(paths: Iterable[Path], folder: Path, size: int, num_frames: int) -> list[Example]:
    """
    The clips of a checkpoint, copied to `folder`. They are read as uploads are: a checkpoint may come from anybody.
    """
    examples = []
    for path in paths:
        name = path.stem.replace("_", " ").capitalize()
        try:
            frames, fps = read_upload(str(path), f"example {path.name}", size, num_frames)
        except Refused as error:
            logging.warning("%s It is left out.", error)
            continue
        copy, image = folder / path.name, folder / f"{path.stem}_first_frame.png"
        copy.write_bytes(path.read_bytes())
        export_clip(enlarged(frames[:1], max(1, 256 // size)), image)
        small = as_image(frames[:: max(1, len(frames) // 8)], fps * 8 / max(8, len(frames)), quality=50)
        thumbnail = f'<img src="{small}" alt="">'
        examples.append(Example(name, str(copy), str(image), frames, fps, thumbnail))
    return examples


def thumbnails(examples: list[Example], label: str) -> str:
    buttons = (
        f'<button type="button" data-index="{index}" title="{escape(example.name)}" '
        f'aria-label="{escape(f"{label}: {example.name}")}">{example.thumbnail}</button>'
        for index, example in enumerate(examples)
    )
    return f'<div role="group" aria-label="Examples for {escape(label)}">{"".join(buttons)}</div>'


def preview(frames: np.ndarray, fps: float, caption: str) -> str:
    return f'<img src="{as_image(frames, fps)}" alt="{escape(caption)}" title="{escape(caption)}">'


def refusal(sentence: str) -> str:
    return f'<p class="refusal" role="alert">{escape(sentence)}</p>'


def remark(sentence: str) -> str:
    return f'<p class="remark" role="status">{escape(sentence)}</p>'


def as_image(frames: np.ndarray, fps: float, quality: int = 90) -> str:
    """An animated picture in the page itself: it plays by itself, everywhere, and there is no file to be deleted."""
    images, buffer = [Image.fromarray(frame) for frame in frames], io.BytesIO()
    images[0].save(
        buffer, "WEBP", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0, quality=quality
    )
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def enlarged(clip: np.ndarray, factor: int) -> np.ndarray:
    return clip.repeat(factor, axis=1).repeat(factor, axis=2)


def beside(*clips: np.ndarray) -> np.ndarray:
    """As long as the shortest."""
    length = min(map(len, clips))
    return spaced([clip[:length] for clip in clips], axis=2)


def grid(identities: list[np.ndarray], motions: list[np.ndarray], swaps: list[np.ndarray]) -> np.ndarray:
    """
    Identity rows (first frames at the left), motion columns (clips at the top); swaps row by row. Short clips hold
    their end.
    """
    length = max(map(len, motions))
    size = swaps[0].shape[1]

    def row(clips: list[np.ndarray]) -> np.ndarray:
        return spaced([held(clip, length) for clip in clips], axis=2)

    corner = np.full((1, size, size, 3), GREY, np.uint8)
    rows = [row([corner, *motions])]
    for number, identity in enumerate(identities):
        rows.append(row([identity[:1], *swaps[number * len(motions) : (number + 1) * len(motions)]]))
    return spaced(rows, axis=1)


def held(clip: np.ndarray, length: int) -> np.ndarray:
    return clip[np.minimum(np.arange(length), len(clip) - 1)]


def spaced(clips: list[np.ndarray], axis: int) -> np.ndarray:
    """Along `axis`, with gaps between them and none around."""
    shape = list(clips[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, GREY, np.uint8)
    return np.concatenate([part for clip in clips for part in (gap, clip)][1:], axis=axis)


def routing_clip(frames: np.ndarray, maps: torch.Tensor) -> np.ndarray:
    """Frame by frame: the frame, where it reads on average over the steps, and the two laid over each other."""
    mean = maps.mean(dim=0, keepdim=True)
    strips = [routing_strip(Image.fromarray(frame), mean[:, i], [0]) for i, frame in enumerate(frames)]
    return np.stack([np.asarray(strip) for strip in strips])


def routing_picture(frames: np.ndarray, maps: torch.Tensor) -> Image.Image:
    """The middle frame at the first, the middle and the last step."""
    middle, last = len(frames) // 2, len(maps) - 1
    strip = routing_strip(Image.fromarray(frames[middle]), maps[:, middle], sorted({0, last // 2, last}))
    return strip.resize((strip.width * 3, strip.height * 3), Image.Resampling.NEAREST)
