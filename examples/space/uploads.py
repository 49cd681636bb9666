"""Frames out of files that strangers sent: measured before they are decoded, and decoded in a process of their own.

A decoder that crashes, hangs or swallows memory takes only that process with it. It is this file, run as a script: it
loads neither torch nor Gradio, writes one line of JSON and then the frames.
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps


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
# FFmpeg also "plays" playlists that name other files or hosts; an upload must not reach those.
VIDEO_FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,flv,ogg"
STILL_FPS = 10.0  # of what does not say
CRASHED = "could not be decoded within the limits of this page: it is damaged or too large"


class Refused(ValueError):
    """A sentence for the person who uploaded the file; within this file, its predicate."""


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
    command = [sys.executable, __file__, str(path), str(size), str(int(num_frames))]
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
        raise Refused(f"The {label} {answer['refused']}.")
    return np.frombuffer(pixels, np.uint8).reshape(-1, size, size, 3), answer["fps"]


def frames_of(path: Path, size: int, num_frames: int) -> tuple[list[np.ndarray], float]:
    if path.stat().st_size == 0:
        raise Refused("is an empty file")
    try:
        image = Image.open(path, formats=IMAGE_FORMATS)
    except Image.DecompressionBombError:
        raise Refused("has a canvas that is too large") from None
    except OSError:  # not an image by its content, whatever its name says
        return video_frames(path, size, num_frames)
    with image:
        return image_frames(image, path, size, num_frames)


def image_frames(image: Image.Image, path: Path, size: int, num_frames: int) -> tuple[list[np.ndarray], float]:
    pixels = image.width * image.height
    if not getattr(image, "is_animated", False) and image.format != "GIF":
        if pixels > MAX_STILL_PIXELS:
            raise Refused(f"is {image.width} x {image.height} pixels large, and at most 50 million pixels are taken")
        return [squared(image, size)], STILL_FPS
    check_side(image.width, image.height)
    count = gif_length(path) if image.format == "GIF" else image.n_frames
    if count > MAX_FILE_FRAMES:
        raise Refused(f"has more than {MAX_FILE_FRAMES} frames")
    if pixels * count > MAX_ANIMATED_PIXELS:
        raise Refused(
            f"is {image.width} x {image.height} pixels large for {count} frames, which is too much to unpack: make it "
            "smaller"
        )
    wanted, frames, milliseconds = set(spread(count, num_frames)), [], 0
    for number in range(count):
        image.seek(number)
        image.load()  # before which WebP does not say how long it is shown
        milliseconds += image.info.get("duration", 0)
        if number in wanted:
            frames.append(squared(image, size))
    check_seconds(milliseconds / 1000)
    return frames, rate(len(frames), milliseconds / 1000)


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


def video_frames(path: Path, size: int, num_frames: int) -> tuple[list[np.ndarray], float]:
    check_seconds(mp4_header_seconds(path))
    stamps = []
    with opened(path) as (container, stream):
        check_side(stream.width, stream.height)
        check_seconds((container.duration or 0) / 1e6)  # what the header says, before anything else is read
        check_seconds(float((stream.duration or 0) * stream.time_base))
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                stamps.append(packet.pts)
            if len(stamps) > MAX_FILE_FRAMES:
                raise Refused(f"has more than {MAX_FILE_FRAMES} frames")
        known = [stamp for stamp in stamps if stamp is not None]
        seconds = float((max(known) - min(known)) * stream.time_base) if known else 0.0
    seconds *= len(stamps) / max(1, len(stamps) - 1)  # the last frame is shown, too
    check_seconds(seconds)
    wanted, frames = set(spread(len(stamps), num_frames)), []
    with opened(path) as (container, stream):
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                check_side(frame.width, frame.height)  # a stream may grow beyond what its header says
                picture = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                frames.append(squared(Image.fromarray(picture), size))
            if len(frames) == len(wanted):
                break
    if not frames:
        raise Refused("has no frame that can be decoded")
    return frames, rate(len(frames), seconds)


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


@contextlib.contextmanager
def opened(path: Path):
    options = {"format_whitelist": VIDEO_FORMATS, "protocol_whitelist": "file", "max_pixels": str(MAX_SIDE * MAX_SIDE)}
    try:
        with av.open(str(path.absolute()), options=options) as container:
            if not container.streams.video:
                raise Refused("has no pictures in it")
            yield container, container.streams.video[0]
    except av.FFmpegError:
        raise Refused("is not a video or image that can be decoded") from None


def check_side(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE:
        raise Refused(f"is {width} x {height} pixels large, and at most {MAX_SIDE} a side are taken")


def check_seconds(seconds: float) -> None:
    if seconds > MAX_SECONDS + 0.5:
        raise Refused(f"says that it lasts {seconds:.0f} seconds, and at most {MAX_SECONDS} are taken: cut it first")


def spread(count: int, num_frames: int) -> list[int]:
    return np.linspace(0, count - 1, min(count, num_frames)).round().astype(int).tolist()


def rate(count: int, seconds: float) -> float:
    return min(30.0, max(1.0, count / seconds)) if seconds > 0 else STILL_FPS


def squared(image: Image.Image, size: int) -> np.ndarray:
    """As the pipeline reads a file: upright, transparent pixels on black, cropped around the centre."""
    image = ImageOps.exif_transpose(image)
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
    path, size, num_frames = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    limit_this_process()
    try:
        frames, fps = frames_of(path, size, num_frames)
        answer, pixels = {"fps": fps}, np.stack(frames).tobytes()
    except Refused as refusal:
        answer, pixels = {"refused": str(refusal)}, b""
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError):
        answer, pixels = {"refused": "is damaged and cannot be decoded"}, b""
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + pixels)


if __name__ == "__main__":
    main()
