"""Frames out of files that strangers sent: measured before they are decoded, and decoded in a process of their own.

A decoder that crashes, hangs or swallows memory takes only that process with it. It is this file, run as a script: it
writes one line of JSON and then the frames. Of the package it loads the readers of clips alone: all of it would bring
torch, seconds and gigabytes for every upload.
"""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


if __name__ == "__main__":
    package = types.ModuleType("divid_diffusers")
    package.__path__ = importlib.util.find_spec("divid_diffusers").submodule_search_locations
    sys.modules["divid_diffusers"] = package

from divid_diffusers.clips.decoding import open_video
from divid_diffusers.clips.pictures import ANIMATED_FORMATS
from divid_diffusers.clips.reading import ClipFile


MAX_BYTES = 20 * 2**20
MAX_SECONDS = 30
MAX_FILE_FRAMES = 1800  # of a file; how many are used is the user's choice
MAX_SIDE = 4096
MAX_STILL_PIXELS = 50_000_000  # a phone's photograph
MAX_ANIMATED_PIXELS = 500_000_000  # canvas times frames of a GIF, all of which are drawn to reach the last
MAX_MEMORY = 2 * 2**30  # bytes of address space for the process that decodes
MAX_CPU_SECONDS = 30
MAX_WAIT_SECONDS = 180  # by the clock, which on a busy machine runs faster than the processor

IMAGE_FORMATS = ("GIF", "PNG", "WEBP", "JPEG", "BMP")
STILL_FPS = 10.0  # of what does not say
CRASHED = "could not be decoded within the limits of this page: it is damaged or too large"


class Refused(ValueError):
    """A sentence for the person who uploaded the file."""


def read_upload(path: str | None, label: str, size: int, num_frames: int) -> tuple[np.ndarray, float]:
    """
    Args:
        path: of the upload; None where nothing was chosen.
        label: what messages call it, e.g. "identity clip".
        size: pixels per side of the frames returned, cropped around the centre.
        num_frames: how many at most; of a longer clip, as many evenly spaced ones.

    Returns:
        uint8 `(frames, size, size, 3)`, RGB, and how many of them make a second.

    Raises:
        Refused: a sentence, for anything that is not a clip or beyond the limits above.
    """
    if not path:
        raise Refused(f"There is no {label} yet: upload one, or choose an example.")
    try:
        num_bytes = os.path.getsize(path)
    except OSError:
        raise Refused(f"The {label} is no longer here: upload it again.") from None
    if num_bytes > MAX_BYTES:
        raise Refused(f"The {label} has {num_bytes / 2**20:.0f} MB, but at most {MAX_BYTES >> 20} MB are taken.")
    command = [sys.executable, __file__, str(path), f"The {label}", str(size), str(int(num_frames))]
    # FFmpeg and BLAS threads would each reserve address space.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, env=environment, timeout=MAX_WAIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"The {label} {CRASHED}.") from None
    head, _, pixels = done.stdout.partition(b"\n")
    if done.returncode or not head:
        raise Refused(f"The {label} {CRASHED}.")
    answer = json.loads(head)
    if "refused" in answer:
        raise Refused(answer["refused"])
    return np.frombuffer(pixels, np.uint8).reshape(-1, size, size, 3), answer["fps"]


def frames_of(path: Path, name: str, size: int, num_frames: int) -> tuple[list[np.ndarray], float]:
    """As [`read_upload`]. Raises Refused, or the ValueError of the package, which begin with `name`."""
    if path.stat().st_size == 0:
        raise Refused(f"{name} is an empty file.")
    try:
        image = Image.open(path, formats=IMAGE_FORMATS)
    except Image.DecompressionBombError:
        raise Refused(f"{name} has a canvas that is too large.") from None
    except OSError:  # not an image by its content, whatever its name says
        check_video(path, name)
    else:
        with image:
            check_image(image, path, name)
    clip = ClipFile(path, name)
    if clip.times is None:
        return [squared(next(iter(clip)), size)], STILL_FPS
    times, seconds = clip.times
    check_seconds(seconds, name)
    frames = [squared(frame, size) for frame in clip.frames_at(spread(len(times), num_frames))]
    return frames, rate(len(frames), seconds)


def check_image(image: Image.Image, path: Path, name: str) -> None:
    """Before anything is unpacked; see also [`MAX_MEMORY`]."""
    pixels = image.width * image.height
    if image.format != "GIF" and not (image.format in ANIMATED_FORMATS and getattr(image, "is_animated", False)):
        if pixels > MAX_STILL_PIXELS:
            raise Refused(
                f"{name} is {image.width} x {image.height} pixels large, and at most 50 million pixels are taken."
            )
        return
    check_side(image.width, image.height, name)
    count = gif_length(path) if image.format == "GIF" else image.n_frames
    if count > MAX_FILE_FRAMES:
        raise Refused(f"{name} has more than {MAX_FILE_FRAMES} frames.")
    if pixels * count > MAX_ANIMATED_PIXELS:
        raise Refused(
            f"{name} is {image.width} x {image.height} pixels large for {count} frames, which is too much to unpack: "
            "make it smaller."
        )


def check_video(path: Path, name: str) -> None:
    """By what its headers say, and by the number of its packets; none is decoded."""
    check_seconds(mp4_header_seconds(path), name)
    with open_video(path, name) as (container, stream):
        check_side(stream.width, stream.height, name)
        check_seconds((container.duration or 0) / 1e6, name)
        check_seconds(float((stream.duration or 0) * stream.time_base), name)
        packets = (packet for packet in container.demux(stream) if packet.size)
        if len(list(itertools.islice(packets, MAX_FILE_FRAMES + 1))) > MAX_FILE_FRAMES:
            raise Refused(f"{name} has more than {MAX_FILE_FRAMES} frames.")


def gif_length(path: Path) -> int:
    """Frames of a GIF, counted by walking over its blocks and drawing none; no further than the limit."""
    with open(path, "rb") as file:

        def skip_colours(flags: int) -> None:
            if flags & 0x80:
                file.seek(3 * 2 ** ((flags & 7) + 1), os.SEEK_CUR)

        def skip_sub_blocks() -> None:
            while length := file.read(1):
                if length == b"\0":
                    break
                file.seek(length[0], os.SEEK_CUR)

        head = file.read(13)
        skip_colours(head[10])
        count = 0
        while count <= MAX_FILE_FRAMES:
            block = file.read(1)
            if block == b"!":  # an extension: its label, then sub-blocks
                file.seek(1, os.SEEK_CUR)
            elif block == b",":  # a frame: its place and flags, its colours, the width of its codes, then sub-blocks
                count += 1
                skip_colours(file.read(9)[-1])
                file.seek(1, os.SEEK_CUR)
            else:  # the end, or damage, which Pillow will find
                break
            skip_sub_blocks()
    return max(1, count)


def mp4_header_seconds(path: Path) -> float:
    """
    What an mp4 says of itself, which FFmpeg passes over where the table of frames says otherwise; 0 for other files.
    """
    with open(path, "rb") as file:
        position, end = 0, path.stat().st_size
        while position + 8 <= end:
            file.seek(position)
            head = file.read(40)
            length, name = int.from_bytes(head[:4], "big"), head[4:8]
            if name == b"mvhd":
                wide = head[8] == 1  # of two versions the one with times of 64 bits
                scale = int.from_bytes(head[28:32] if wide else head[20:24], "big")
                duration = int.from_bytes(head[32:40] if wide else head[24:28], "big")
                unknown = duration == (2**64 if wide else 2**32) - 1
                return 0.0 if unknown else duration / max(1, scale)
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:
                break
            position += 8 if name == b"moov" else length  # into that one, past the others
    return 0.0


def check_side(width: int, height: int, name: str) -> None:
    if max(width, height) > MAX_SIDE:
        raise Refused(f"{name} is {width} x {height} pixels large, and at most {MAX_SIDE} a side are taken.")


def check_seconds(seconds: float, name: str) -> None:
    if seconds > MAX_SECONDS + 0.5:
        raise Refused(
            f"{name} says that it lasts {seconds:.0f} seconds, and at most {MAX_SECONDS} are taken: cut it first."
        )


def spread(count: int, num_frames: int) -> list[int]:
    return np.linspace(0, count - 1, min(count, num_frames)).round().astype(int).tolist()


def rate(count: int, seconds: float) -> float:
    return min(30.0, max(1.0, count / seconds)) if seconds > 0 else STILL_FPS


def squared(frame: Image.Image | np.ndarray, size: int) -> np.ndarray:
    """As the pipeline does it: transparent pixels on black, cropped around the centre."""
    image = Image.fromarray(frame) if isinstance(frame, np.ndarray) else frame
    if image.mode.startswith("I"):  # 16-bit grey
        image = Image.fromarray((np.asarray(image) / 256).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR))


def limit_this_process() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; those of the file remain
        return
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    path, name, size, num_frames = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    limit_this_process()
    try:
        frames, fps = frames_of(path, name, size, num_frames)
        answer, pixels = {"fps": fps}, np.stack(frames).tobytes()
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        own = str(error).startswith(name)
        answer, pixels = {"refused": str(error) if own else f"{name} is damaged and cannot be decoded."}, b""
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + pixels)


if __name__ == "__main__":
    main()
