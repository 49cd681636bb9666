"""
A clip in a file (video, animated or still image), in a folder of frames, or behind a URL: its frames and their time.
"""

import itertools
import re
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .decoding import decoded, open_video, video_frame
from .download import download, is_url
from .pictures import ANIMATED_FORMATS, frame_seconds, image_frames
from .video import SeekableVideo, on_show


# Pillow decodes these; everything else is tried as video.
IMAGE_FORMATS = ("GIF", "PNG", "WEBP", "JPEG", "BMP", "TIFF", "PPM")
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")
DEFAULT_FPS = 10.0  # of what has no time of its own: stills, folders of frames, arrays

Frame = Image.Image | np.ndarray


class ClipFile:
    """
    A clip that is not in memory. Iterating decodes its frames one by one: PIL images, or RGB arrays `(H, W, 3)` uint8,
    upright and as they are shown. A video's frames come once each, also where its rate varies; `at_rate` makes them
    even. Frames by `fps` are the seconds that the clip lasts, whatever it is.

    Args:
        source: a video, GIF, animated WebP/PNG or image, a folder of frames (read in natural order), or a URL of any
            of them but the last, which is fetched once.
        name: what messages call it; default: the source in quotes.

    Raises:
        FileNotFoundError, ValueError: in one sentence that names the source, from any method.
    """

    def __init__(self, source: str | Path, name: str | None = None):
        self.source, self.name = source, name or f"'{source}'"

    def __iter__(self) -> Iterator[Frame]:
        if self.path.is_dir():
            for file in self._frame_files():
                # Of a frame's own file the first picture; a file may hold more, as a photo with a preview.
                yield from itertools.islice(ClipFile(file), 1)
            return
        image = self._image()
        if image is None:
            with open_video(self.path, self.name) as (container, stream):
                for frame in decoded(container, stream):
                    yield video_frame(frame, stream, self.name)
            return
        with image:
            yield from image_frames(image, self.name)

    @cached_property
    def path(self) -> Path:
        if not str(self.source):
            raise ValueError("The path of the clip is empty.")
        if is_url(self.source):
            self._folder = tempfile.TemporaryDirectory()  # goes with this object
            path = Path(self._folder.name) / "clip"
            download(str(self.source), path)
            return path
        path = Path(self.source).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"There is no file or folder {self.name}.")
        return path

    @property
    def fps(self) -> float | None:
        """
        Frames per second over the whole clip; None where there is no time: stills, folders, a video of one frame.
        """
        if self.times is None:
            return None
        times, seconds = self.times
        return round(float(len(times) / seconds), 3) if seconds > 0 else None

    def at_rate(self, fps: float) -> Iterator[Frame]:
        """The frames on show at 0, 1/fps, 2/fps, ... seconds; every frame where there is no time."""
        yield from self if self.times is None else self.frames_at(on_show(*self.times, fps).tolist())

    def frames_at(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Those of ascending indices, some of which may come more than once; of a video, without decoding the rest."""
        yield from _pick(self, indices) if self._video is None else self._video.frames_at(indices)

    @cached_property
    def times(self) -> tuple[np.ndarray, float] | None:
        """The seconds at which each frame begins to be shown, `(F,)`, and at which the last ends; None as `fps`."""
        if self._video is not None:
            return self._video.times, self._video.seconds
        image = None if self.path.is_dir() else self._image()
        if image is None:
            return None
        with image:
            shown = frame_seconds(image, self.name)
        if shown is None:
            return None
        ends = np.cumsum(shown)
        return ends - shown, float(ends[-1])

    @cached_property
    def _video(self) -> SeekableVideo | None:
        if self.path.is_dir():
            return None
        image = self._image()
        if image is not None:
            image.close()
            return None
        return SeekableVideo(self.path, self.name)

    def _image(self) -> Image.Image | None:
        """None for what is not an image by its content, whatever its suffix says."""
        if self.path.stat().st_size == 0:
            raise ValueError(f"{self.name} is an empty file.")
        try:
            return Image.open(self.path, formats=IMAGE_FORMATS)
        except OSError:
            return None
        except Exception as error:  # Pillow: too many pixels, or whatever a damaged byte happens to break
            raise ValueError(f"{self.name} cannot be decoded ({error}).") from error

    def _frame_files(self) -> Sequence[Path]:
        files = [file for file in self.path.iterdir() if file.suffix.lower() in FRAME_SUFFIXES and file.name[0] != "."]
        if not files:
            raise ValueError(f"The folder {self.name} holds no frame images ({', '.join(FRAME_SUFFIXES)}).")
        return sorted(files, key=_natural_order)


def open_source(source: str | Path, name: str) -> Iterator[Frame]:
    """The frames of a [`ClipFile`]."""
    return iter(ClipFile(source, name))


def frame_rate(clip: Any) -> float:
    """
    Frames per second of a clip, anything that `ClipProcessor.preprocess` takes as one: 10 for one without a time of
    its own.
    """
    if isinstance(clip, (str, Path)):
        clip = ClipFile(clip)
    return (clip.fps if isinstance(clip, ClipFile) else None) or DEFAULT_FPS


def is_animation(path: Path) -> bool:
    """Whether a file is an image that moves, by its content; False for one that cannot be read or decoded."""
    try:
        image = ClipFile(path)._image()
    except (OSError, ValueError):
        return False
    if image is None:
        return False
    with image:
        return image.format in ANIMATED_FORMATS and getattr(image, "is_animated", False)


def _pick(frames: Iterator[Frame], indices: Sequence[int]) -> Iterator[Frame]:
    wanted = iter(indices)
    index = next(wanted, None)
    for number, frame in enumerate(frames):
        while index == number:
            yield frame
            index = next(wanted, None)


def _natural_order(file: Path) -> list[int | str]:
    """frame_2 before frame_10. `re.split` alternates text and digits, so only like is compared with like."""
    return [int(part) if i % 2 else part.lower() for i, part in enumerate(re.split(r"(\d+)", file.name))]
