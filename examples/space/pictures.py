"""What is shown: example clips, previews, and results put side by side. Clips are uint8 `(N, H, W, 3)`."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from divid_diffusers import export_clip
from divid_diffusers.data.puppets import Appearance, render
from divid_diffusers.evaluation.routing_maps import routing_strip


GAP = 2  # pixels between cells, white
EXAMPLE_FPS = 8
TEST = 2**30  # where the seeds of the test split begin: recordings that no model here was trained on
RECORDINGS = {
    "Person 1, jumping jack": (TEST + 1, "jumping_jack"),
    "Person 2, kick": (TEST + 4, "kick"),
    "Person 3, wave": (TEST + 7, "wave"),
    "Person 4, bow": (TEST + 11, "bow"),
    "Person 5, lunge": (TEST + 14, "lunge"),
    "Person 6, squat": (TEST + 16, "squat"),
}


class Example(NamedTuple):
    """A name for people, two files, the clip and its first frame, and the clip itself."""

    name: str
    clip: str
    image: str
    frames: np.ndarray


def draw_examples(folder: Path) -> list[Example]:
    examples = []
    for name, (identity, motion) in RECORDINGS.items():
        path = folder / (name.lower().replace(", ", "_").replace(" ", "_") + ".mp4")
        frames = render(Appearance.sample(identity), motion, seed=identity)
        export_clip(frames, path, EXAMPLE_FPS)
        export_clip(enlarged(frames[:1], 4), path.with_suffix(".png"))
        examples.append(Example(name, str(path), str(path.with_suffix(".png")), frames))
    return examples


def preview(frames: np.ndarray, fps: float, caption: str) -> str:
    """An animated picture in the page itself: it plays by itself, everywhere, and there is no file to be deleted."""
    images, buffer = [Image.fromarray(frame) for frame in frames], io.BytesIO()
    images[0].save(
        buffer, "WEBP", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0, quality=90
    )
    source = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def enlarged(clip: np.ndarray, factor: int) -> np.ndarray:
    return clip.repeat(factor, axis=1).repeat(factor, axis=2)


def beside(*clips: np.ndarray) -> np.ndarray:
    """As long as the shortest."""
    length = min(map(len, clips))
    return padded(np.concatenate([cell(clip[:length]) for clip in clips], axis=2))


def grid(identities: list[np.ndarray], motions: list[np.ndarray], swaps: list[np.ndarray]) -> np.ndarray:
    """Identity rows (first frames at the left), motion columns (clips at the top); swaps row by row. Short clips hold their end."""
    length = max(map(len, motions))
    size = swaps[0].shape[1]

    def row(clips: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([cell(held(clip, length)) for clip in clips], axis=2)

    corner = np.full((1, size, size, 3), 255, np.uint8)
    rows = [row([corner, *motions])]
    for number, identity in enumerate(identities):
        rows.append(row([identity[:1], *swaps[number * len(motions) : (number + 1) * len(motions)]]))
    return padded(np.concatenate(rows, axis=1))


def held(clip: np.ndarray, length: int) -> np.ndarray:
    return clip[np.minimum(np.arange(length), len(clip) - 1)]


def cell(clip: np.ndarray) -> np.ndarray:
    return np.pad(clip, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)


def padded(clip: np.ndarray) -> np.ndarray:
    return np.pad(clip, ((0, 0), (GAP, 0), (GAP, 0), (0, 0)), constant_values=255)


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
