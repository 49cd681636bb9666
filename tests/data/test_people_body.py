"""A recorded motion on a rendered body: bones point where the performer's do, and nothing is left of the build."""

import numpy as np
import pytest

from divid_diffusers.data.mhad_skeleton import ENDS, KINECT_JOINTS
from divid_diffusers.data.people_body import axes, between, body_mesh, in_space, pose, render_body, segment_of
from divid_diffusers.data.people_person import Person


FRAMES = 6
LENGTHS = {"trunk": 0.5, "head": 0.2, "shoulders": 0.36, "hips": 0.2}


def skeleton_of(**aims: tuple[float, float, float]) -> np.ndarray:
    """A recording (F, 20, 3) of somebody who stands with hanging arms, but for the bones that aim elsewhere."""
    directions = dict.fromkeys(ENDS, (0, -1, 0)) | {"trunk": (0, 1, 0), "head": (0, 1, 0)}
    directions |= {"shoulders": (-1, 0, 0), "hips": (-1, 0, 0)} | aims  # mirrored, as Kinect has it
    vector = {bone: np.array(aim, float) * LENGTHS.get(bone, 0.3) for bone, aim in directions.items()}
    at = {name: np.zeros(3) for name in KINECT_JOINTS}
    at["left_hip"], at["right_hip"] = vector["hips"] / 2, -vector["hips"] / 2
    at["shoulder_center"] = vector["trunk"]
    at["head"] = at["shoulder_center"] + vector["head"]
    for side, sign in (("left", 1), ("right", -1)):
        at[f"{side}_shoulder"] = at["shoulder_center"] + sign * vector["shoulders"] / 2
        for start, end, bone in (("shoulder", "elbow", "arm"), ("elbow", "wrist", "forearm"),
                                 ("hip", "knee", "thigh"), ("knee", "ankle", "shank")):  # fmt: skip
            at[f"{side}_{end}"] = at[f"{side}_{start}"] + vector[f"{side}_{bone}"]
    return np.repeat(np.stack([at[name] for name in KINECT_JOINTS])[None], FRAMES, 0)


def test_depth_that_the_sensor_has_missed_is_to_the_front():
    # (left, up, back) as the sensor sees a bone
    seen = np.array([[1, 0, 0], [0, 0.6, 0], [0, 0.6, 0.8], [0, 0.6, 0.3], [0, 0.6, -0.3]])
    found = in_space(seen)
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert np.allclose(found, [[1, 0, 0], [0, -0.8, 0.6], [0, 0.8, 0.6], [0, 0.8, 0.6], [0, -0.8, 0.6]])


def test_turns_are_rotations_that_lead_where_they_should():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 3))
    for turns in (axes(a, b), between(a, b)):
        assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-6)
        assert np.allclose(np.linalg.det(turns), 1)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b)]
    assert np.allclose((between(a, b) @ unit[0][..., None])[..., 0], unit[1], atol=1e-6)
    assert np.allclose(axes(a, b)[..., 2], unit[0])


@pytest.mark.parametrize(
    "label, segment",
    [
        ("root", "trunk"), ("spine01", "trunk"), ("clavicle.L", "trunk"), ("head", "head"), ("eye.R", "head"),
        ("upperarm02.L", "left_arm"), ("finger3-1.R", "right_forearm"), ("upperleg01.R", "right_thigh"),
        ("lowerleg02.L", "left_shank"), ("foot.L", "feet"), ("toe1-1.R", "feet"),
    ],
)  # fmt: skip
def test_every_bone_turns_with_a_segment(label, segment):
    assert segment_of(label) == segment


@pytest.fixture(scope="module")
def mesh():
    pytest.importorskip("anny", reason="rendered people need the extra `people`")
    return body_mesh()


def shown(mesh, skeleton, seed=0):
    """The posed vertices of the first frame, and where wrists, elbows and the top of the head are among them."""
    person = Person.sample(seed)
    vertices = pose(skeleton, mesh.rest(person.phenotype, person.changes), mesh, np.array([0]))[0]
    labels = mesh.model.bone_labels
    return vertices, lambda bone: vertices[mesh.weights[:, labels.index(bone)].numpy() > 0.5].mean(0)


def test_a_raised_arm_is_raised_on_the_performer_s_own_side(mesh):
    vertices, middle = shown(mesh, skeleton_of(right_arm=(0.2, 1, 0), right_forearm=(0, 1, 0)))
    assert middle("wrist.R")[2] > middle("head")[2] + 0.1 > middle("wrist.L")[2] + 0.6
    assert middle("wrist.R")[0] < -0.05 < 0.05 < middle("wrist.L")[0]
    assert vertices[:, 2].min() == pytest.approx(0, abs=1e-5)


def test_a_squat_is_as_deep_on_everybody_and_the_build_of_the_performer_is_gone(mesh):
    squat = {f"{side}_thigh": (0, -0.3, -0.95) for side in ("left", "right")}
    for seed in (0, 1):
        standing, _ = shown(mesh, skeleton_of(), seed)
        low, _ = shown(mesh, skeleton_of(**squat), seed)
        assert 0.70 < low[:, 2].max() / standing[:, 2].max() < 0.90
        larger, _ = shown(mesh, 1.3 * skeleton_of(**squat), seed)
        assert np.allclose(low, larger, atol=1e-4)


def test_a_recording_is_rendered(mesh):
    pytest.importorskip("moderngl", reason="rendered people need the extra `people`")
    try:
        clip = render_body(skeleton_of(), Person.sample(0), size=32)
    except OSError as error:
        pytest.skip(str(error))
    assert clip.shape == (FRAMES, 32, 32, 3) and np.array_equal(clip[0], clip[-1])
    with pytest.raises(ValueError, match="pass \\(frames, 20, 3\\)"):
        render_body(np.zeros((0, 20, 3)), Person.sample(0), size=32)
