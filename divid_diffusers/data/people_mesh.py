"""The shape of a rendered person's head: Anny's mesh, from numbers to vertices.

Anny (Brégier et al., ECCV 2026, Apache-2.0) makes MakeHuman's body from phenotypes, local changes, facial actions and
a pose. Its model keeps MakeHuman's helper geometry (eyes, teeth, tongue, lashes, hair, tights; CC0), which follows
every change; here it is drawn as what it stands for.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.sparse import csr_matrix


ANNY = "0.6"
"""The series of versions whose vertices and labels are those of this module."""

PARTS: tuple[str, ...] = ("skin", "eye", "teeth", "tongue", "lash", "hair", "cloth")
"""What a vertex is drawn as."""

GROUPS: dict[str, str] = {
    "body": "skin", "helper-l-eye": "eye", "helper-r-eye": "eye",
    "helper-upper-teeth": "teeth", "helper-lower-teeth": "teeth", "helper-tongue": "tongue",
    "helper-l-eyelashes-1": "lash", "helper-l-eyelashes-2": "lash",
    "helper-r-eyelashes-1": "lash", "helper-r-eyelashes-2": "lash",
    "helper-hair": "hair", "helper-tights": "cloth",
}  # fmt: skip
"""Of MakeHuman's groups, those that are drawn."""

REGIONS: dict[str, tuple[float, float]] = {"head": (0.40, 0.27), "body": (-9.0, 9.0)}
"""From which height, and how far from the middle, a region of the mesh reaches; metres in the mean person. The chest
and the arms are not seen in a portrait."""


@functools.cache
def load_anny():
    """
    Anny's model, float32. The first time on a machine it takes a minute, then some seconds. Raises ImportError, in a
    sentence, where Anny is missing or of another series than [`ANNY`].
    """
    try:
        found = version("anny")
        import anny
    except (PackageNotFoundError, ImportError) as error:
        raise ImportError('Rendered people need the package anny: pip install -e ".[people]".') from error
    if not found.startswith(f"{ANNY}."):
        raise ImportError(f"Rendered people need anny {ANNY}, but {found} is installed: pip install 'anny=={ANNY}.*'.")
    model = anny.Anny(
        topology="anny-quads-full",  # with the vertices of the helper geometry
        phenotypes="all",
        local_changes="default",
        facial_actions="all",
        skinning_method="lbs",
    )
    return model.to(torch.float32).eval()


class PersonMesh:
    """
    A region of Anny's mesh, `"head"` (and shoulders) or the whole `"body"`: V vertices.

    `triangles` (T, 3) int32 count in these; `part` (V,) is what each vertex is drawn as, an index into [`PARTS`];
    `canonical` (V, 3) is where it lies in the mean person at rest, in metres, x to the person's left, y to the back, z
    up; `lips` and `mouth` (V,) are 1 on the lips and inside the mouth. Raises ImportError as [`load_anny`].
    """

    def __init__(self, region: str) -> None:
        self.region = region
        lowest, widest = REGIONS[region]
        self.model = model = load_anny()
        from anny.utils.obj_utils import load_obj_file

        assets = Path(sys.modules["anny"].__file__).parent / "data/mpfb2"
        _, corners, groups = load_obj_file(assets / "3dobjs/base.obj")
        template = model.template_vertices.double().numpy()
        part, uv, quads = np.zeros(len(template), np.int64), np.zeros((len(template), 2)), []
        for group, name in GROUPS.items():
            faces, faces_uv = (
                groups[group][key].numpy() for key in ("face_vertex_indices", "face_texture_coordinate_indices")
            )
            part[faces], uv[faces] = PARTS.index(name), corners.numpy()[faces_uv]
            at = template[faces]
            quads.append(faces[(at[..., 2].min(1) > lowest) & (np.abs(at[..., 0]).max(1) < widest)])
        quads = np.concatenate(quads)
        triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
        self.vertices, triangles = np.unique(triangles, return_inverse=True)
        self.triangles = triangles.reshape(-1, 3).astype(np.int32)
        self.part, self.canonical = part[self.vertices], template[self.vertices].astype(np.float32)
        self.lips = read_mask(assets / "textures/mpfb_lips.jpg", uv[self.vertices]) * (self.part == 0)
        self.mouth = read_mask(assets / "textures/mpfb_inside-mouth.jpg", uv[self.vertices]) * (self.part == 0)

        rows = [i for i, label in enumerate(model.blendshape_labels) if label.startswith("facial_action:")]
        self.actions = model.blendshapes[rows][:, self.vertices].flatten(1)  # (52, V * 3)
        indices, weights = model.vertex_bone_indices[self.vertices], model.vertex_bone_weights[self.vertices]
        self.weights = torch.zeros(len(self.vertices), model.bone_count).scatter_add_(1, indices, weights)
        self._around = self._triangles_around()

    def _triangles_around(self) -> csr_matrix:
        corners, count = self.triangles.T.reshape(-1), len(self.triangles)
        ones, triangles = np.ones(len(corners), np.float32), np.tile(np.arange(count), 3)
        return csr_matrix((ones, (corners, triangles)), shape=(len(self.vertices), count))

    @torch.no_grad()
    def rest(self, phenotype: Mapping[str, float], changes: Mapping[str, float]) -> dict[str, torch.Tensor]:
        """A person at rest: `vertices` (V, 3), metres, and `bone_poses` (1, bones, 4, 4)."""
        coefficients = self.model.get_phenotype_blendshape_coefficients(**phenotype, local_changes=changes)
        rest = self.model.get_rest_model(coefficients)
        return {"vertices": rest["rest_vertices"][0, self.vertices], "bone_poses": rest["rest_bone_poses"]}

    @torch.no_grad()
    def move(self, rest: dict[str, torch.Tensor], actions: np.ndarray, turns: Mapping[str, np.ndarray]) -> np.ndarray:
        """
        The person's vertices (N, V, 3) float32, metres, of N frames: facial actions (N, 52), and for some bones a turn
        (N, 3, 3) against the bone that carries them, in the axes of the world.
        """
        count = len(actions)
        pose = torch.eye(4).repeat(count, self.model.bone_count, 1, 1)
        for bone, turn in turns.items():
            pose[:, self.model.bone_labels.index(bone), :3, :3] = torch.from_numpy(np.asarray(turn, np.float32))
        transforms, _ = self.model.get_bone_transforms(pose, rest["bone_poses"])
        shape = torch.from_numpy(np.asarray(actions, np.float32)) @ self.actions
        return self._skin(rest["vertices"] + shape.view(count, -1, 3), transforms)

    @torch.no_grad()
    def pose(self, rest: dict[str, torch.Tensor], orientations: np.ndarray) -> np.ndarray:
        """The vertices (N, V, 3) float32, metres, with every bone oriented so in the world: (N, bones, 3, 3)."""
        pose = torch.eye(4).repeat(*orientations.shape[:2], 1, 1)
        pose[..., :3, :3] = torch.from_numpy(orientations.astype(np.float32))
        transforms, _ = self.model.get_bone_transforms(pose, rest["bone_poses"], pose_parameterization="world-orient")
        return self._skin(rest["vertices"], transforms)

    def _skin(self, vertices: torch.Tensor, transforms: torch.Tensor) -> np.ndarray:
        blended = (self.weights @ transforms[:, :, :3].flatten(2)).view(len(transforms), -1, 3, 4)
        return ((blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]).numpy()

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """Unit normals of the vertices (V, 3) of one frame: float32 (V, 3)."""
        a, b, c = (vertices[self.triangles[:, i]] for i in range(3))
        normals = self._around @ np.cross(b - a, c - a)
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def read_mask(path: Path, uv: np.ndarray) -> np.ndarray:
    """What a grey picture says at texture coordinates (V, 2): (V,) in [0, 1]."""
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L"), np.float32) / 255
    places = np.clip(np.stack([1 - uv[:, 1], uv[:, 0]]) * np.array(grey.shape)[:, None], 0, len(grey) - 1).astype(int)
    return grey[tuple(places)]
