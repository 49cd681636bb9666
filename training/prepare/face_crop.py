"""The head of a talking person, cut out of a video by one steady square.

A face is looked for in a few frames with the Haar cascades that OpenCV 4 ships; what most of them agree on becomes one
square for the whole clip. A square that followed the face from frame to frame would shake, and a model would learn the
shaking as motion.

The file is read twice, first for the face and then for the crops: of a large video, one frame at full size is in
memory.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from divid_diffusers.clips.processor import crop_and_resize
from divid_diffusers.clips.reading import open_source


try:
    import cv2
except ImportError:
    cv2 = None


# `default` is what "a Haar cascade" means to most. `alt2`, asked where `default` sees little, finds faces that it
# misses and puts boxes of much the same size around them. More lenient parameters find hardly more faces, but also
# what is none.
CASCADES = ("default", "alt2")
ENOUGH = 1 / 2  # of the looks must agree, or the next cascade is asked
TOO_FEW = 1 / 5  # of the looks: what no more than these see is not trusted to be a face
MAX_LOOKS = 15
LOOK_SIDE = 360  # pixels of the shorter side of what is looked at
SMALLEST_FACE = 1 / 5  # of the shorter side

# A cascade's box goes from the eyebrows to the mouth, the square from above the hair to the collar. Chosen by looking.
MARGIN = 1.8  # sides of the cascade's box
LIFT = 0.1  # of that side: hair needs more room than the chin


class Face(NamedTuple):
    """A cascade's square box: its centre and its side, in units of the frame's shorter side."""

    x: float
    y: float
    side: float


def crop_head(path: Path, name: str, size: int) -> np.ndarray:
    """
    All frames, uint8 `(N, size, size, 3)`. Raises ValueError, with `name`, for a damaged file or where no face is
    found.
    """
    greys, count = look_at(read_frames(path, name))
    faces = find_faces(greys)
    if len(faces) <= TOO_FEW * len(greys):
        seen = f"a face found in only {len(faces)}" if faces else "no face found in any"
        raise ValueError(f"{name}: {seen} of the {len(greys)} frames looked at, of {count}")
    face = Face(*np.median(faces, axis=0))
    heads = np.empty((count, size, size, 3), np.uint8)  # a list of small arrays would keep large ones from being freed
    for head, frame in zip(heads, read_frames(path, name), strict=True):
        head[:] = resize(cut(frame, face), size)
    return heads


def read_frames(path: Path, name: str) -> Iterator[np.ndarray]:
    """RGB frames, all of one size."""
    first = None
    for frame in open_source(path, name):
        frame = frame if isinstance(frame, np.ndarray) else np.asarray(frame.convert("RGB"))
        first = frame.shape if first is None else first
        if frame.shape != first:
            raise ValueError(
                f"{name} changes its size from {first[1]}x{first[0]} to {frame.shape[1]}x{frame.shape[0]}"
            )
        yield frame
    if first is None:
        raise ValueError(f"{name} has no frames")


def look_at(frames: Iterable[np.ndarray]) -> tuple[list[np.ndarray], int]:
    """Evenly spaced frames, small and grey, and how many frames there were in all, which is known at the end only."""
    greys, step, count = [], 1, 0
    for frame in frames:
        if count % step == 0:
            greys.append(small_grey(frame))
            if len(greys) > MAX_LOOKS:
                greys, step = greys[::2], 2 * step
        count += 1
    return greys, count


def small_grey(frame: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    scale = LOOK_SIDE / min(grey.shape)
    if scale >= 1:
        return grey
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def find_faces(greys: Sequence[np.ndarray]) -> list[Face]:
    """The faces that agree with each other, by the cascade that sees most; at most one for each picture."""
    best = []
    for name in CASCADES:
        found = [face for face in (largest_face(grey, name) for grey in greys) if face]
        best = max(best, agreeing(found), key=len)
        if len(best) >= ENOUGH * len(greys):
            break
    return best


def largest_face(grey: np.ndarray, cascade: str) -> Face | None:
    short = min(grey.shape)
    smallest = round(SMALLEST_FACE * short)
    # The histogram is left as it is: equalised, these detectors find far fewer faces.
    boxes = load_cascade(cascade).detectMultiScale(grey, 1.1, 5, minSize=(smallest, smallest))
    if len(boxes) == 0:
        return None
    left, top, side, _ = max(boxes, key=lambda box: box[2])
    return Face((left + side / 2) / short, (top + side / 2) / short, side / short)


@functools.cache  # once in each process
def load_cascade(name: str):
    """Raises SystemExit where this OpenCV has no cascades."""
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    path = Path(folder) / f"haarcascade_frontalface_{name}.xml"
    if not hasattr(cv2, "CascadeClassifier") or not path.is_file():
        version = getattr(cv2, "__version__", None)
        raise SystemExit(
            f"{f'OpenCV {version}' if version else 'Without OpenCV, this Python'} has no {path.name}, with which "
            "faces are found: "
            "pip install 'opencv-python-headless<5' (OpenCV 5 dropped it)."
        )
    cv2.setNumThreads(1)  # clips are read in parallel already
    return cv2.CascadeClassifier(str(path))


def agreeing(faces: Sequence[Face]) -> list[Face]:
    """Those near the median, in place and in size."""
    if not faces:
        return []
    x, y, side = np.median(faces, axis=0)
    return [
        face for face in faces if max(abs(face.x - x), abs(face.y - y)) < side / 2 and 1 / 1.5 < face.side / side < 1.5
    ]


def cut(frame: np.ndarray, face: Face) -> np.ndarray:
    """The square around the head: shifted where it would leave the frame, smaller only where the frame is."""
    height, width = frame.shape[:2]
    short = min(height, width)
    side = min(round(MARGIN * face.side * short), short)
    left = round(face.x * short - side / 2)
    top = round((face.y - LIFT * face.side) * short - side / 2)
    left, top = min(max(left, 0), width - side), min(max(top, 0), height - side)
    return frame[top : top + side, left : left + side]


def resize(frame: np.ndarray, size: int) -> np.ndarray:
    """As the pipeline does with a clip it is given."""
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1).float()
    return crop_and_resize(pixels, size, size).round().byte().permute(1, 2, 0).numpy()
