"""Puppets: articulated people drawn in code, appearance and motion independent by construction.

A recording is `render(appearance, motion, seed)`. The appearance fixes colours and proportions, the pair
(motion, seed) fixes joint angles over time, and neither ever sees the other. So the answer to a swap, "this person,
that motion", can be rendered and compared pixel by pixel:

    a, b = puppets[0], puppets[1]
    truth = render(Appearance.sample(a["identity"]), MOTIONS[b["action"]], b["motion_seed"])

Three steps, each usable alone: `joints` (angles over time), `positions` (2-D joints of one person), `draw` (pixels).
Coordinates are fractions of the frame, x to the right, y down. "left" is the person's own left, on the right of the
image, because the person faces the camera.
"""

from dataclasses import replace

import numpy as np
import torch

from .puppet_arguments import at_least, random_numbers
from .puppet_body import JOINTS, Appearance, assemble
from .puppet_drawing import draw
from .puppet_motions import CHANNELS, MOTIONS, joints


__all__ = ["CHANNELS", "JOINTS", "MOTIONS", "Appearance", "Puppets", "draw", "joints", "positions", "render"]


def positions(angles: np.ndarray, appearance: Appearance) -> np.ndarray:
    """Joints of one person in the frame: angles (N, 11) from `joints` -> float32 (N, 15, 2) as in `JOINTS`, (x, y)."""
    channel = dict(zip(CHANNELS, np.asarray(angles, np.float64).T, strict=True))

    def ray(angle: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(angle), np.cos(angle)], -1)

    up = ray(np.pi - channel["lean"])
    across = np.stack([-up[:, 1], up[:, 0]], -1)
    bones = {"trunk": up, "head": up, "shoulders": across, "hips": across * [1, 0.5]}  # Hips tilt less than the trunk.
    for side, sign in (("left", 1), ("right", -1)):
        for limb in ("arm", "forearm", "thigh", "shank"):
            bones[f"{side}_{limb}"] = ray(sign * channel[f"{side}_{limb}"])
    return assemble(bones, channel["shift"], channel["lift"], appearance)


def render(
    appearance: Appearance,
    motion: str,
    seed: int,
    num_frames: int = 10,
    size: int = 64,
    camera: tuple[float, float, float] = (1.0, 0.0, 0.0),
) -> np.ndarray:
    """
    One recording: uint8 (num_frames, size, size, 3). The camera is (zoom, right, down): how large the person is drawn
    and where, in frames. Pure; raises ValueError as `joints` and `draw` do.
    """
    zoom, *shift = camera
    appearance = replace(appearance, height=appearance.height * zoom)
    return draw(positions(joints(motion, seed, num_frames), appearance) + np.float32(shift), appearance, size)


SPLITS: tuple[str, ...] = ("train", "test")
SETS: dict[str, dict] = {
    "puppets": {},
    "puppets-mid": {"start": 5},
    "puppets-varied": {"start": 5, "varied_camera": True},
}
"""
Arguments of [`Puppets`] by the name of a set: opening at rest, or in the middle of a movement, or that and framed by
anybody.
"""

SEEDS_PER_SPLIT = 2**30  # "train" draws appearance and motion seeds from [0, 2**30), "test" from [2**30, 2**31).


class Puppets(torch.utils.data.Dataset):
    """Recordings of puppets, drawn when asked for; item i depends on the arguments and i alone.

    Args:
        num_clips: number of recordings, at least 1.
        seed: which draw of recordings.
        num_frames, size: frames per recording and pixels per side, at least 1 each.
        num_appearances: None gives every recording a person of its own; a number takes them from a fixed pool, the
            first so many people of the split, the same whatever the seed.
        start: frames left out at the start of every recording. All recordings open at rest; from about the fifth frame
            on a person is in the middle of a movement, as in most real clips, and the first frame tells the motion.
        varied_camera: every recording has a camera of its own, which is nearer, further off, or not quite centred; it
            goes with the person, not with the motion.
        split: "train" or "test". The two share no appearance seed and no motion seed, whatever the other arguments.

    Each item is a dict: frames, uint8 tensor (num_frames, 3, size, size); identity, the int for `Appearance.sample`;
    action, an index into `MOTIONS`; motion_seed and camera, for `render`; start; clip_id, a str that names the
    recording.
    Raises ValueError for bad arguments, IndexError past the end.
    """

    def __init__(
        self,
        num_clips: int,
        seed: int = 0,
        num_frames: int = 10,
        size: int = 64,
        num_appearances: int | None = None,
        split: str = "train",
        start: int = 0,
        varied_camera: bool = False,
    ) -> None:
        for name, value in (("num_clips", num_clips), ("num_frames", num_frames), ("size", size)):
            at_least(name, value, 1)
        at_least("start", start, 0)
        if num_appearances is not None:
            at_least("num_appearances", num_appearances, 1)
            if num_appearances > SEEDS_PER_SPLIT:
                raise ValueError(
                    f"num_appearances is {num_appearances} in Puppets: a split has {SEEDS_PER_SPLIT} people."
                )
        if split not in SPLITS:
            raise ValueError(f"Unknown split {split!r} for Puppets: choose 'train' or 'test'.")
        self.num_clips, self.seed, self.num_frames, self.size = num_clips, seed, num_frames, size
        self.num_appearances, self.split, self.start = num_appearances, split, start
        self.varied_camera = varied_camera
        self._offset = SPLITS.index(split) * SEEDS_PER_SPLIT
        self._first = int(random_numbers(f"{split} identities", seed).random() * SEEDS_PER_SPLIT)

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> dict:
        i = index + self.num_clips if index < 0 else index
        if not 0 <= i < self.num_clips:
            raise IndexError(f"Puppets holds {self.num_clips} recordings: there is no recording {index}.")
        rng = random_numbers(f"{self.split} clip {i}", self.seed)
        action = int(rng.random() * len(MOTIONS))
        motion_seed = self._offset + int(rng.random() * SEEDS_PER_SPLIT)
        if self.num_appearances is None:
            identity = self._offset + (self._first + i) % SEEDS_PER_SPLIT  # Counting up: nobody appears twice.
        else:
            identity = self._offset + int(rng.random() * self.num_appearances)
        length = self.start + self.num_frames
        camera = (1.0, 0.0, 0.0)
        if self.varied_camera:
            zoom = 0.55 + 0.55 * rng.random()
            camera = (zoom, 0.3 * (rng.random() - 0.5), -0.3 * rng.random() * (1 - min(zoom, 1)))
        appearance = Appearance.sample(identity)
        frames = render(appearance, MOTIONS[action], motion_seed, length, self.size, camera)[self.start :]
        return {
            "frames": torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(),
            "identity": identity,
            "action": action,
            "clip_id": f"puppets-{self.split}-{self.seed}-{i:06d}",
            "motion_seed": motion_seed,
            "start": self.start,
            "camera": camera,
        }
