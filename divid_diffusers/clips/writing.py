"""Clips into files that others can open: GIF, MP4 that browsers play, PNG strips."""

import contextlib
import math
import os
import uuid
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from .processor import load_clip


def export_clip(frames: Any, path: str | Path, fps: float = 10) -> Path:
    """Writes one clip (anything `ClipProcessor.preprocess` takes as one) as a `.gif`, `.mp4` or `.png`.

    `.mp4` is h264 in yuv420p, which browsers play; frames with a short side under 256 are enlarged by a whole number,
    without smoothing, if possible to a size divisible by 16. `.gif` keeps grey exactly and colour in 256 colours;
    equal neighbouring frames are stored as one that is shown longer. `.png` is a strip of the frames side by side.

    The file appears whole or not at all: it is written under another name beside `path` and then renamed.

    Returns:
        `path` as a `Path`.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: another suffix, `fps` that is not positive, or frames as `ClipProcessor.preprocess` refuses.
    """
    path = Path(path)
    writers = {".gif": _write_gif, ".mp4": _write_mp4, ".png": _write_strip}
    if path.suffix.lower() not in writers:
        raise ValueError(f"'{path}' must end in .gif, .mp4 or .png.")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"`fps` must be positive, but is {fps}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{path.parent}' to write '{path.name}' into.")
    images = load_clip(frames)
    with written_whole(path) as partial:
        writers[path.suffix.lower()](images, partial, fps)
    return path


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which becomes `path` if all goes well and is gone if not."""
    # Not `tempfile`, whose files only their owner may read.
    partial = path.with_name(f".{uuid.uuid4().hex}{path.suffix.lower()}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write_gif(images: list[Image.Image], path: Path, fps: float) -> None:
    # GIF counts in hundredths of a second, and browsers slow down anything below two.
    duration = max(20, round(100 / fps) * 10)
    images[0].save(path, save_all=True, append_images=images[1:], duration=duration, loop=0)


def _write_strip(images: list[Image.Image], path: Path, fps: float) -> None:
    Image.fromarray(np.concatenate([np.asarray(image) for image in images], axis=1)).save(path)


def _write_mp4(images: list[Image.Image], path: Path, fps: float) -> None:
    width, height = images[0].size
    factor = math.ceil(256 / min(width, height))
    if factor > 1:
        whole = (k for k in range(factor, 2 * factor) if k * width % 16 == k * height % 16 == 0)
        factor = next(whole, factor)
    width, height = width * factor, height * factor
    with av.open(str(path.absolute()), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "18"})
        stream.pix_fmt = "yuv420p"
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.codec_context.colorspace = 6  # SMPTE 170M, what the conversion below uses: players need not guess
        for image in images:
            array = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.NEAREST))
            # yuv420p wants even sizes: repeat the last row and column.
            array = np.pad(array, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            for packet in stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
