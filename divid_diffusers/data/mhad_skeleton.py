"""UTD-MHAD's skeletons (Chen, Jafari and Kehtarnavaz, ICIP 2015) on puppets: real motion, any appearance.

    skeleton = read_skeleton(Path("a27_s1_t1_skeleton.mat").read_bytes(), "a27_s1_t1")
    clip = render_skeleton(skeleton, Appearance.sample(3))  # uint8 (F, 64, 64, 3): somebody else squats

Of the performer only the directions of the bones are kept, and the path of the pelvis in leg lengths: the body that is
drawn has the appearance's lengths, so the performer's build, distance and place cannot be seen. What stays is posture
(how far the arms hang from the body, how the sensor sees the shoulders) and style, and posture is a strong cue: a
linear probe on the joints of the first frame names the performer in 92 % of held-out clips, on the figure's height in
no more than chance (training/evaluate/skeleton_leakage.py). So a set made of these has a performer, whom its motion
gives away, beside its identity.

The recordings are mirror images, as Kinect gives them: the performer faces the sensor, yet what the files call right,
and what throws, serves and draws in all eight performers, lies at positive x, on the right of the image. Puppets are
seen as in a photograph, their right on the left of the image, so x is turned round: the rendered clip is the mirror
image of the depth clip, and its left and right are the performer's own.
"""

import numpy as np

from .mat_file import read_mat
from .puppet_body import SOLE, Appearance, assemble
from .puppet_drawing import draw


KINECT_JOINTS: tuple[str, ...] = (
    "head", "shoulder_center", "spine", "hip_center",
    "left_shoulder", "left_elbow", "left_wrist", "left_hand",
    "right_shoulder", "right_elbow", "right_wrist", "right_hand",
    "left_hip", "left_knee", "left_ankle", "left_foot", "right_hip", "right_knee", "right_ankle", "right_foot",
)  # fmt: skip
"""Order of the 20 joints in the files, as UTD-MHAD's Skeleton_joint_order.txt has it."""

# From and to: the two joints of the skeleton that give each of `BONES` its direction. Kinect's hip_center lies above
# the hips, so "pelvis" is the middle of the hips, where a puppet has it. Hands and feet are too noisy to be used.
ENDS: dict[str, tuple[str, str]] = {
    "trunk": ("pelvis", "shoulder_center"), "head": ("shoulder_center", "head"),
    "shoulders": ("right_shoulder", "left_shoulder"), "hips": ("right_hip", "left_hip"),
    "left_arm": ("left_shoulder", "left_elbow"), "left_forearm": ("left_elbow", "left_wrist"),
    "left_thigh": ("left_hip", "left_knee"), "left_shank": ("left_knee", "left_ankle"),
    "right_arm": ("right_shoulder", "right_elbow"), "right_forearm": ("right_elbow", "right_wrist"),
    "right_thigh": ("right_hip", "right_knee"), "right_shank": ("right_knee", "right_ankle"),
}  # fmt: skip

STANDING = 5  # In the first frames, at 30 a second, the lower foot is on the ground.
FLIGHT = 15  # A foot that is up for longer has not jumped: the sensor has lost it, or looks down on a step away.
RIGID = 0.9  # A bone measured shorter than this share of its length points to the sensor or away from it.


def read_skeleton(content: bytes, name: str) -> np.ndarray:
    """
    The joints (F, 20, 3) float64 of a `.mat` file's `d_skel` (20, 3, F): ordered as `KINECT_JOINTS`, in metres, x to
    the right of the image, y up, z away from the sensor.

    Raises ValueError, naming the file, where it cannot be read, has no `d_skel` or one of another shape, without a
    frame, or with values that are not finite.
    """
    joints = read_mat(content, "d_skel", name)
    if joints.dtype.kind not in "uif" or joints.ndim != 3 or joints.shape[:2] != (len(KINECT_JOINTS), 3):
        shape = f"{joints.dtype} {joints.shape}"
        raise ValueError(f"`d_skel` of {name} is {shape}, but must be (20, 3, F) metres: is it a skeleton recording?")
    if not joints.shape[2]:
        raise ValueError(f"`d_skel` of {name} has no frames: leave this recording out.")
    if not np.isfinite(joints).all():
        raise ValueError(f"`d_skel` of {name} holds values that are not finite: leave this recording out.")
    return joints.transpose(2, 0, 1).astype(np.float64)


def retarget(skeleton: np.ndarray, appearance: Appearance) -> np.ndarray:
    """
    The performer's motion on another body: skeleton (F, 20, 3) -> joints as `draw` takes them, float32 (F, 15, 2).

    Each bone keeps its direction in space and gets the appearance's length; the figure is projected orthographically.
    The pelvis begins in the middle of the frame, and its path is measured in leg lengths, so that feet that stand
    still go on doing so. The lower foot is on the ground, as in `positions`, except in a jump: higher than in the
    first frames, for less than 15 frames, half a second. (All our choice.)

    Pass the whole recording at the sensor's 30 frames a second, and leave out frames afterwards: two of its errors are
    mended over time. A median of three frames takes out single false ones. And where a bone is measured clearly
    shorter than in the rest of the recording, the sensor has missed depth, and what is missing is taken to be depth:
    seen from the front, it has the thighs of a squat for short and upright, and the squat would be half as deep.

    A bone that has next to no length in a frame has no direction there and keeps the last one it had, or at the start
    gets the first it will have; without any length in most of the recording it is drawn as pointing at the sensor.

    Raises ValueError where `skeleton` is not (F, 20, 3), or has values that are not finite.
    """
    at, bones = measured(skeleton)
    seen = {bone: directions(vectors)[:, :2] * [1, -1] for bone, vectors in bones.items()}  # y down
    leg = leg_length(bones)
    path, lift = path_and_lift(at, (appearance.leg_ratio - SOLE) / leg if leg > 0 else 0.0)
    return assemble(seen, path, lift, appearance)


def measured(skeleton: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """
    What a recording (F, 20, 3) says: joints by name, and bones by name, steady, each (F, 3); mirrored back, in metres,
    x to the performer's left, y up, z away from the sensor. Raises ValueError as [`retarget`].
    """
    skeleton = np.asarray(skeleton, np.float64)
    if skeleton.ndim != 3 or skeleton.shape[1:] != (len(KINECT_JOINTS), 3) or not len(skeleton):
        raise ValueError(
            f"The skeleton has shape {skeleton.shape}: pass (frames, 20, 3), as `read_skeleton` gives it."
        )
    if not np.isfinite(skeleton).all():
        raise ValueError("The skeleton holds values that are not finite: fill in missing joints first.")
    at = {name: skeleton[:, i] * [-1, 1, 1] for i, name in enumerate(KINECT_JOINTS)}  # mirrored back
    at["pelvis"] = (at["left_hip"] + at["right_hip"]) / 2
    return at, {bone: _steady(at[end] - at[start]) for bone, (start, end) in ENDS.items()}


def leg_length(bones: dict[str, np.ndarray]) -> float:
    """The performer's, metres."""
    return sum(_length(bones[f"{side}_{part}"]) for side in ("left", "right") for part in ("thigh", "shank")) / 2


def path_and_lift(at: dict[str, np.ndarray], scale: float) -> tuple[np.ndarray, np.ndarray]:
    """How far the pelvis has gone to the performer's left, and the lower foot is off the ground, (F,) each, scaled."""
    path = _steady(at["pelvis"])[:, 0]
    lift = _lift(_steady(np.minimum(at["left_ankle"], at["right_ankle"]))[:, 1])
    return scale * (path - path[0]), scale * lift


def render_skeleton(skeleton: np.ndarray, appearance: Appearance, size: int = 64) -> np.ndarray:
    """The motion (F, 20, 3) by this person: uint8 (F, size, size, 3). Raises ValueError as its two steps do."""
    return draw(retarget(skeleton, appearance), appearance, size)


def _steady(vectors: np.ndarray) -> np.ndarray:
    """The median (F, 3) of three frames; of bones, because that of joints would mix their lengths into directions."""
    padded = np.concatenate([vectors[:1], vectors, vectors[-1:]])
    return np.median([padded[:-2], vectors, padded[2:]], axis=0)


def _length(vectors: np.ndarray) -> float:
    """A bone's length in a recording (F, 3); above the median, because errors shorten bones more often than not."""
    return float(np.quantile(np.linalg.norm(vectors, axis=-1), 0.75))


def directions(vectors: np.ndarray) -> np.ndarray:
    """Directions (F, 3) of a bone: of length 1, or less where the sensor has missed depth."""
    measured, length = np.linalg.norm(vectors, axis=-1), _length(vectors)
    if length == 0:
        return np.zeros_like(vectors)
    known = measured > 0.05 * length
    last = np.maximum.accumulate(np.where(known, np.arange(len(vectors)), known.argmax()))
    return (vectors / np.maximum(measured, RIGID * length)[:, None])[last]


def _lift(height: np.ndarray) -> np.ndarray:
    """How far the lower ankle is off the ground (F,), in the unit of its height (F,)."""
    windows = np.lib.stride_tricks.sliding_window_view
    longest_low = windows(np.pad(height, FLIGHT, mode="edge"), FLIGHT).min(-1)
    stays = windows(longest_low, FLIGHT).max(-1)[1:-1]  # A morphological opening: the heights without short peaks.
    return np.maximum(0, height - np.maximum(stays, np.median(height[:STANDING])))
