"""UTD-MHAD's skeletons (Chen, Jafari and Kehtarnavaz, ICIP 2015) on rendered people: real motion, any body.

    skeleton = read_skeleton(Path("a27_s1_t1_skeleton.mat").read_bytes(), "a27_s1_t1")
    clip = render_body(skeleton, Person.sample(3))  # uint8 (F, 64, 64, 3): somebody else squats

As with puppets (`mhad_skeleton`), of the performer only the directions of the bones are kept, and the path of the
pelvis in leg lengths. Here they are directions in space, and each segment of Anny's body is turned there as a whole.
"""

from __future__ import annotations

import functools

import numpy as np

from .mhad_skeleton import directions, leg_length, measured, path_and_lift
from .people_drawing import Renderer
from .people_mesh import PersonMesh
from .people_person import Person


FORWARD = 0.1  # A bone that points no farther back than this, and is seen short, points to the sensor.
SEGMENTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "trunk": ("root", "neck01", ("root", "pelvis", "spine", "clavicle", "shoulder")),
    "head": ("root", "neck01", ("neck", "head", "eye")),  # upright in rest as the trunk is
    "arm": ("upperarm01", "lowerarm01", ("upperarm",)),
    "forearm": ("lowerarm01", "wrist", ("lowerarm", "wrist", "finger", "metacarpal")),
    "thigh": ("upperleg01", "lowerleg01", ("upperleg",)),
    "shank": ("lowerleg01", "foot", ("lowerleg",)),
}
"""From which joint of Anny's to which a bone of the skeleton leads, and the bones of Anny's that turn with it."""


@functools.cache
def body_mesh() -> PersonMesh:
    return PersonMesh("body")


@functools.lru_cache(maxsize=2)
def body_renderer(size: int) -> Renderer:
    return Renderer(body_mesh(), size)


def render_body(skeleton: np.ndarray, person: Person, size: int = 64, shown: np.ndarray | None = None) -> np.ndarray:
    """
    The motion (F, 20, 3) of a whole recording, by this person: uint8 (F, size, size, 3), or of the frames `shown`
    alone. Raises ValueError as `retarget` and where the head leaves the frame, ImportError without Anny, OSError
    without OpenGL.
    """
    mesh = body_mesh()
    rest = mesh.rest(person.phenotype, person.changes)
    return body_renderer(size).draw(person, rest["vertices"].numpy(), pose(skeleton, rest, mesh, shown))


def pose(skeleton: np.ndarray, rest: dict, mesh: PersonMesh, shown: np.ndarray | None = None) -> np.ndarray:
    """
    The person's vertices (N, V, 3) float32, metres: x to the person's left from where the pelvis began, z up from the
    ground.
    """
    at, bones = measured(skeleton)
    shown = np.arange(len(skeleton)) if shown is None else np.asarray(shown)
    aims = {bone: in_space(directions(vectors))[shown] for bone, vectors in bones.items()}
    labels = mesh.model.bone_labels
    joints = rest["bone_poses"][0, :, :3, 3].double().numpy()

    def along(segment: str, side: str) -> np.ndarray:
        start, end = (
            joints[labels.index(joint if joint in labels else joint + side)] for joint in SEGMENTS[segment][:2]
        )
        return end - start

    across = joints[labels.index("upperarm01.L")] - joints[labels.index("upperarm01.R")]
    still = axes(along("trunk", "")[None], across[None]).transpose(0, 2, 1)
    turns = {"trunk": axes(aims["trunk"], aims["shoulders"] + aims["hips"]) @ still}
    turns["feet"] = axes(np.broadcast_to([0.0, 0.0, 1.0], aims["hips"].shape), aims["hips"]) @ still
    for bone, aim in aims.items():
        side, _, segment = bone.rpartition("_")
        if segment in SEGMENTS and segment != "trunk":
            carried = turns["trunk"] @ along(segment, {"left": ".L", "right": ".R", "": ""}[side])
            turns[bone] = between(carried, aim) @ turns["trunk"]

    oriented = np.broadcast_to(
        rest["bone_poses"][0, :, :3, :3].double().numpy(), (len(shown), len(labels), 3, 3)
    ).copy()
    for i, label in enumerate(labels):
        oriented[:, i] = turns[segment_of(label)] @ oriented[:, i]
    vertices = mesh.pose(rest, oriented)
    leg = sum(np.linalg.norm(along(part, ".L")) for part in ("thigh", "shank"))
    performer = leg_length(bones)
    path, lift = path_and_lift(at, leg / performer if performer > 0 else 0.0)
    vertices[..., 2] += (lift[shown] - vertices[..., 2].min(1))[:, None]
    vertices[..., 0] += path[shown][:, None]
    return vertices


def segment_of(label: str) -> str:
    """The bone of the skeleton, or `feet`, that one of Anny's bones turns with."""
    side = {".L": "left_", ".R": "right_"}.get(label[-2:], "")
    for segment, (_, _, names) in SEGMENTS.items():
        if label.startswith(names):
            return segment if segment in ("trunk", "head") else side + segment
    return "feet"


def in_space(vectors: np.ndarray) -> np.ndarray:
    """
    Directions (F, 3) as the sensor sees them, shorter than 1 where it has missed depth, in the axes of the body (left,
    back, up) and of length 1: what is missing is depth, to the front unless the bone clearly points back.
    """
    left, up, back = vectors.T
    depth = np.sqrt(np.maximum(back**2, 1 - left**2 - up**2))
    return np.stack([left, np.where(back > FORWARD, depth, -depth), up], -1)


def axes(up: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) whose third axis is `up` (N, 3) and whose first is as near to `left` as can be."""
    z = unit(up)
    x = unit(left - (left * z).sum(-1, keepdims=True) * z)
    return np.stack([x, np.cross(z, x), z], -1)


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotations (N, 3, 3) from a to b, both (N, 3)."""
    a, b = unit(a), unit(b)
    x, y, z = np.cross(a, b).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    return np.eye(3) + cross + cross @ cross / np.maximum(1 + (a * b).sum(-1), 1e-3)[:, None, None]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
