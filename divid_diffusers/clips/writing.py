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
from PIL import GifImagePlugin, Image, ImageChops

from .processor import load_clip
from .reading import DEFAULT_FPS


SUFFIXES = (".gif", ".mp4", ".png")
SLOWEST, FASTEST, FASTEST_GIF = 0.01, 1000, 50  # frames per second; browsers slow down a GIF that is faster


def export_clip(frames: Any, path: str | Path, fps: float = DEFAULT_FPS) -> Path:
    """Writes one clip (anything `ClipProcessor.preprocess` takes as one) as a `.gif`, `.mp4` or `.png`.

    `.mp4` is h264 in yuv420p, which browsers play; frames with a short side under 256 are enlarged by a whole number,
    without smoothing, if possible to a size divisible by 16. `.gif` keeps grey exactly and colour in 256 colours; each
    frame is kept, also one equal to the one before. `.png` is a strip of the frames side by side, without time.

    The file appears whole or not at all: it is written under another name beside `path` and then renamed.

    Returns:
        `path` as a `Path`, `~` resolved.

    Raises:
        OSError: there is no such folder, it cannot be written to, or `path` is a folder.
        ValueError: another suffix, `fps` out of range ([`check_export`]), or frames as `ClipProcessor.preprocess`
            refuses.
    """
    path = check_export(path, fps)
    images = load_clip(frames)
    with written_whole(path) as partial:
        {".gif": _write_gif, ".mp4": _write_mp4, ".png": _write_strip}[path.suffix.lower()](images, partial, fps)
    return path


def check_export(path: str | Path, fps: float = DEFAULT_FPS) -> Path:
    """
    What [`export_clip`] would refuse of its target, found before there are frames to write; the path, `~` resolved.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"'{path}' must end in .gif, .mp4 or .png.")
    if not SLOWEST <= fps <= fastest(path):
        raise ValueError(
            f"`fps` is {fps}, but a {path.suffix.lower()} takes from {SLOWEST} to {fastest(path)} frames per second."
        )
    check_writable(path)
    return path


def nearest_rate(fps: float, path: str | Path) -> float:
    """The rate nearest to `fps` that a file takes: for the rate of a clip that was read, which nobody chose."""
    return min(max(fps, SLOWEST), fastest(Path(path)))


def fastest(path: Path) -> int:
    return FASTEST_GIF if path.suffix.lower() == ".gif" else FASTEST


def check_writable(path: Path) -> None:
    """Raises an OSError, in a sentence, where no file of this name can be written."""
    if path.is_dir():
        raise IsADirectoryError(f"'{path}' is a folder: name a file in it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{path.parent}' to write '{path.name}' into.")
    partial = _beside(path)
    try:
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise OSError(f"Cannot write into the folder '{path.parent}' ({error.strerror}): choose another.") from error


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which becomes `path` if all goes well and is gone if not."""
    partial = _beside(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    # Not `tempfile`, whose files only their owner may read.
    return path.with_name(f".{uuid.uuid4().hex}{path.suffix.lower()}")


def _write_gif(images: list[Image.Image], path: Path, fps: float) -> None:
    # Not `Image.save`, which merges equal neighbours: they would be read, and counted, as one frame. GIF counts in
    # hundredths of a second, so ends are rounded, not durations.
    ends = [10 * round(100 * number / fps) for number in range(len(images) + 1)]
    given = shown = None
    with open(path, "wb") as file:
        for image, start, end in zip(images, ends, ends[1:], strict=False):
            if given is None:
                patch, corner = _in_256_colours(image), (0, 0)
                file.writelines(GifImagePlugin.getheader(patch, info={"loop": 0, "duration": end - start})[0])
            elif box := ImageChops.difference(given, image).getbbox():  # only what changes
                patch, corner = _in_256_colours(image.crop(box)), box[:2]
            else:  # some pixel must be drawn again
                patch, corner = _in_256_colours(shown.crop((0, 0, 1, 1))), (0, 0)
            file.writelines(
                GifImagePlugin.getdata(patch, corner, duration=end - start, include_color_table=given is not None)
            )
            shown = image.copy() if given is None else shown
            shown.paste(patch.convert(image.mode), corner)
            given = image
        file.write(b";")


def _in_256_colours(image: Image.Image) -> Image.Image:
    return image if image.mode == "L" else image.convert("P", palette=Image.Palette.ADAPTIVE)


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
