"""Which pictures of an image file are the frames of a clip, and how long each is shown.

An animation's frame that is held for k times the shortest comes k times, for encoders merge equal neighbours: so
frames are evenly spaced in time. Where the times are no such multiples, every frame comes once.
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps


ANIMATED_FORMATS = ("GIF", "WEBP", "PNG")  # which say how long their frames are shown
TIFF_KIND, TIFF_OLD_KIND = 254, 255  # tags "NewSubfileType" and "SubfileType"
UNSAID = 100  # milliseconds; also where 10 or less are said, as browsers do
MAX_FRAMES = 10_000  # beyond it, holding is not written out


def image_frames(image: Image.Image, name: str) -> Iterator[Image.Image]:
    """The frames, upright, of an open image. Raises ValueError, with `name`, for a damaged one."""
    with _naming(name):
        numbers = frame_numbers(image)
        for number, count in zip(numbers, repeats(milliseconds(image, numbers), len(numbers)), strict=True):
            image.seek(number)
            frame = ImageOps.exif_transpose(image)
            if image.mode == "I" and image.format in ("PPM", "PNG"):  # Pillow's form of their 16 bits
                frame = Image.fromarray(np.asarray(frame).astype(np.uint16))
            yield from [frame] * count


def frame_seconds(image: Image.Image, name: str) -> list[float] | None:
    """How long each of [`image_frames`] is shown; None for an image that does not move, or does not say."""
    with _naming(name):
        numbers = frame_numbers(image)
        shown = milliseconds(image, numbers)
        if shown is None:
            return None
        counts = repeats(shown, len(numbers))
        return [each / count / 1000 for each, count in zip(shown, counts, strict=True) for _ in range(count)]


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Pillow raises whatever a damaged byte happens to break
        raise ValueError(f"{name} is damaged and cannot be decoded ({error}).") from error


def frame_numbers(image: Image.Image) -> list[int]:
    """
    Without a camera's second view or preview (MPO), a thumbnail or mask (TIFF), what programs without animation show
    (PNG).
    """
    count = getattr(image, "n_frames", 1)
    if image.format == "MPO":
        return [0]
    if image.format == "PNG" and count > 1 and image.info.get("default_image"):
        return list(range(1, count))
    if image.format != "TIFF" or count == 1:
        return list(range(count))
    pages = []
    for number in range(count):
        image.seek(number)
        if not image.tag_v2.get(TIFF_KIND, 0) & 0b101 and image.tag_v2.get(TIFF_OLD_KIND) != 2:
            pages.append((number, image.size))
    width, height = (max(sizes) for sizes in zip(*(size for _, size in pages))) if pages else (0, 0)
    # Many programs do not mark a thumbnail.
    return [number for number, size in pages if 2 * size[0] > width or 2 * size[1] > height] or [0]


def milliseconds(image: Image.Image, numbers: Sequence[int]) -> list[float] | None:
    """How long each frame is shown; None for an image that does not move, or does not say."""
    if len(numbers) < 2 or image.format not in ANIMATED_FORMATS:
        return None
    shown = []
    for number in numbers:
        image.seek(number)
        image.load()  # before which WebP does not say
        duration = image.info.get("duration", 0)
        shown.append(duration if duration > 10 else UNSAID)
    return shown


def repeats(shown: Sequence[float] | None, num_frames: int) -> list[int]:
    """How many times each frame comes, by how long it is shown."""
    if shown is None:
        return [1] * num_frames
    shortest = min(shown)
    counts = [round(each / shortest) for each in shown]
    is_held = all(abs(each - count * shortest) <= count for each, count in zip(shown, counts, strict=True))
    return counts if is_held and sum(counts) <= MAX_FRAMES else [1] * num_frames
