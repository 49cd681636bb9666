"""
UTD-MHAD (Chen, Jafari and Kehtarnavaz, ICIP 2015): what its file names say, and its depth recordings as grey frames.
"""

import re
from dataclasses import dataclass

import numpy as np

from .mat_file import read_mat


ACTIONS = (
    "swipe_left", "swipe_right", "wave", "clap", "throw", "arm_cross", "basketball_shoot", "draw_x",
    "draw_circle_clockwise", "draw_circle_counter_clockwise", "draw_triangle", "bowling", "boxing", "baseball_swing",
    "tennis_swing", "arm_curl", "tennis_serve", "push", "knock", "catch", "pick_up_and_throw", "jog", "walk",
    "sit_to_stand", "stand_to_sit", "lunge", "squat",
)  # fmt: skip
SUBJECTS = tuple(f"s{number}" for number in range(1, 9))
CROSS_SUBJECT_TEST = ("s2", "s4", "s6", "s8")  # the data set's own cross-subject protocol
NEVER_RELEASED = ("a8_s1_t4", "a23_s6_t4", "a27_s8_t4")  # corrupt recordings
NUM_TEST_CLIPS = 103  # fits the accuracies of the paper's Table 1

FILE_NAME = re.compile(r"(?:^|/)a(\d+)_s(\d+)_t(\d+)_(color\.avi|depth\.mat|depth\.npy|skeleton\.mat)$")


@dataclass(frozen=True)
class Recording:
    """What a file name says: `a{action}_s{subject}_t{trial}_...`, counted from 1."""

    action: int
    subject: int
    trial: int

    @property
    def clip_id(self) -> str:
        return f"a{self.action}_s{self.subject}_t{self.trial}"

    @classmethod
    def of(cls, file_name: str) -> "Recording | None":
        """None for a file that is no recording of the set."""
        match = FILE_NAME.search(file_name)
        if match is None:
            return None
        recording = cls(*map(int, match.groups()[:3]))
        in_set = 1 <= recording.action <= 27 and 1 <= recording.subject <= 8 and 1 <= recording.trial <= 4
        return recording if in_set else None


def read_depth(content: bytes, name: str) -> np.ndarray:
    """
    Frames `(F, 64, 64)` uint8 of a `.mat` file's `d_depth` (240, 320, F), uint16 millimetres, 0 where nothing was
    measured.

    Columns 40 to 280, which the body never leaves, become value = 255 - (mm - 1200) * 215 / 3000, within 40 and 255,
    with 0 for the background, averaged over areas of 3.75 x 3.75 pixels (our choice). Raises ValueError, naming the
    file, for another file.
    """
    import cv2

    depth = read_mat(content, "d_depth", name)
    if depth.ndim != 3 or depth.shape[:2] != (240, 320) or depth.dtype.kind not in "uif" or not depth.shape[2]:
        raise ValueError(
            f"`d_depth` of {name} is {depth.dtype} {depth.shape}, but must be (240, 320, F) millimetres: is it a "
            "depth recording?"
        )
    millimetres = np.moveaxis(depth[:, 40:280], -1, 0).astype(np.float64)
    grey = np.where(millimetres > 0, np.clip(255 - (millimetres - 1200) * 215 / 3000, 40, 255), 0).astype(np.float32)
    small = [cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA) for frame in grey]
    return np.stack(small).round().astype(np.uint8)
