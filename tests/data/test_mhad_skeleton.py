"""Retargeting keeps the motion and nothing of the performer's build or place; bad files are refused in a sentence."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.io import savemat

from divid_diffusers.data.mhad_skeleton import ENDS, KINECT_JOINTS, read_skeleton, render_skeleton, retarget
from divid_diffusers.data.puppets import JOINTS, Appearance, joints, positions


DATA = Path(os.environ.get("DIVID_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "mhad"
FRAMES = 40
ANN, BOB = (
    Appearance(*[(0.5, 0.5, 0.5)] * 6, height=height, build=build, leg_ratio=leg, head_size=head)
    for height, build, leg, head in ((0.72, 0.8, 0.44, 0.155), (0.79, 1.4, 0.5, 0.19))
)
GRID = 3 / 65536  # joints are rounded to 1/65536 of the frame
TURN = np.linspace(0, 2 * np.pi, FRAMES)


def direction(*xyz) -> np.ndarray:
    """Unit vectors (F, 3) of components that are numbers or (F,)."""
    vectors = np.stack([np.broadcast_to(np.asarray(component, float), FRAMES) for component in xyz], -1)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


STANDING = {"trunk": direction(0, 1, 0), "head": direction(0, 1, -0.1)} | {
    bone: direction(-1, 0, 0) if bone in ("shoulders", "hips") else direction(0, -1, 0) for bone in list(ENDS)[2:]
}
DANCE = STANDING | {
    "trunk": direction(0.2 * np.sin(TURN), 1, 0.1),
    "shoulders": direction(-1, 0.1 * np.sin(TURN), 0.3 * np.cos(TURN)),
    "right_arm": direction(np.sin(TURN), -np.cos(TURN), -0.2),
    "right_forearm": direction(1, np.sin(3 * TURN), -0.5),
    "left_arm": direction(-0.3, -1, 0.2 * np.sin(TURN)),
    "left_thigh": direction(-0.2, -1, np.sin(TURN) ** 2),
    "right_shank": direction(0.1 * np.cos(TURN), -1, 0.3),
}
BUILD = {
    "trunk": 0.4,
    "head": 0.19,
    "shoulders": 0.32,
    "hips": 0.15,
    "arm": 0.27,
    "forearm": 0.23,
    "thigh": 0.45,
    "shank": 0.36,
}


def performer(pose: dict, build: dict = BUILD, pelvis=(0.1, -0.2, 2.9), path=0.0) -> np.ndarray:
    """A skeleton (F, 20, 3) in UTD-MHAD's coordinates, the lower foot on the ground but for `path` (F, 3), in leg
    lengths."""
    bone = {name: vectors * build[name.split("_")[-1]] for name, vectors in pose.items()}
    leg = build["thigh"] + build["shank"]
    # Spine, hands and feet lie anywhere: they are not used.
    at = {name: np.random.RandomState(0).normal(size=(FRAMES, 3)) for name in KINECT_JOINTS}
    at["pelvis"] = np.asarray(pelvis) + leg * (np.zeros((FRAMES, 3)) + path)
    at["shoulder_center"] = at["pelvis"] + bone["trunk"]
    at["head"] = at["shoulder_center"] + bone["head"]
    for side, sign in (("left", 0.5), ("right", -0.5)):
        at[f"{side}_shoulder"] = at["shoulder_center"] + sign * bone["shoulders"] - [0, 0.1, 0]
        at[f"{side}_hip"] = at["pelvis"] + sign * bone["hips"]
        for limb in ("arm", "forearm", "thigh", "shank"):
            start, end = ENDS[f"{side}_{limb}"]
            at[end] = at[start] + bone[f"{side}_{limb}"]
    skeleton = np.stack([at[name] for name in KINECT_JOINTS], 1)
    low = np.minimum(at["left_ankle"], at["right_ankle"])[:, 1] - leg * np.broadcast_to(path, (FRAMES, 3))[:, 1]
    return skeleton - (low - low[0])[:, None, None] * [0, 1, 0]


def joint(xy: np.ndarray, name: str) -> np.ndarray:
    return xy[:, JOINTS.index(name)]


def bone_vectors(xy: np.ndarray) -> np.ndarray:
    """(12, F, 2) along the bones of a puppet."""
    names = {"shoulder_center": "neck"}
    return np.stack([joint(xy, names.get(b, b)) - joint(xy, names.get(a, a)) for a, b in ENDS.values()])


def lengths(appearance: Appearance) -> np.ndarray:
    """(12,): a puppet at rest lies in the image plane, so its bones show at their full length."""
    return np.linalg.norm(bone_vectors(positions(joints("wave", 0, 1), appearance)), axis=-1)[:, 0]


def test_another_build_at_another_place_and_distance_gives_the_same_figure():
    path = np.stack([0.1 * np.sin(TURN), 0 * TURN, 0.3 * np.cos(TURN)], -1)
    truth = retarget(performer(DANCE, path=path), ANN)
    assert truth.shape == (FRAMES, 15, 2) and truth.dtype == np.float32
    tall = {bone: 1.3 * length for bone, length in BUILD.items()}
    lanky = BUILD | {"arm": 0.35, "forearm": 0.31, "thigh": 0.5, "shank": 0.47, "shoulders": 0.22, "trunk": 0.33}
    for build in (BUILD, tall, lanky):
        for pelvis in ((0, 0, 1), (-0.4, 0.3, 4)):
            assert np.allclose(retarget(performer(DANCE, build, pelvis, path), ANN), truth, atol=GRID)


def test_people_differ_in_lengths_and_not_in_motion():
    figures = [bone_vectors(retarget(performer(DANCE), person)) for person in (ANN, BOB)]
    shares = [vectors / lengths(person)[:, None, None] for vectors, person in zip(figures, (ANN, BOB), strict=True)]
    assert np.allclose(*shares, atol=2e-3)
    assert (lengths(BOB) > 1.05 * lengths(ANN)).mean() > 0.5
    # The motion is the performer's: the right arm points where it did, seen from the other side of the mirror.
    arm = shares[0][list(ENDS).index("right_arm")]
    assert np.allclose(arm, DANCE["right_arm"][:, :2] * [-1, -1], atol=0.05)  # the median of three lags on a fast arm


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 24), st.just(20), st.just(3)), elements=st.integers(-3, 3)))
def test_no_skeleton_makes_a_bone_longer_than_the_appearance_has_it(skeleton):
    # Small whole numbers: many joints fall on one another.
    xy = retarget(skeleton, BOB)
    assert np.isfinite(xy).all()
    assert (np.linalg.norm(bone_vectors(xy), axis=-1) <= lengths(BOB)[:, None] + GRID).all()


def test_the_performer_s_right_is_on_the_left_of_the_image_and_up_is_up():
    raised = performer(STANDING | {"right_arm": direction(0.5, 1, 0), "right_forearm": direction(0.5, 1, 0)})
    assert (raised[:, KINECT_JOINTS.index("right_wrist"), 0] > 0.1).all()  # a mirror image in the file
    xy = retarget(raised, ANN)
    right, left, head = (joint(xy, name) for name in ("right_wrist", "left_wrist", "head"))
    assert (right[:, 0] < 0.5).all() and (left[:, 0] > 0.5).all()
    assert (right[:, 1] < head[:, 1]).all() and (left[:, 1] > head[:, 1]).all()

    def other_side(names):
        swap = {"left": "right", "right": "left"}
        return [names.index("_".join(swap.get(word, word) for word in name.split("_"))) for name in names]

    mirrored = performer(DANCE)[:, other_side(KINECT_JOINTS)] * [-1, 1, 1]
    back = retarget(mirrored, ANN)[:, other_side(JOINTS)] * [-1, 1] + [1, 0]
    assert np.allclose(back, retarget(performer(DANCE), ANN), atol=GRID)


def test_standing_feet_stay_and_the_body_begins_in_the_middle():
    sway = 0.2 * np.sin(TURN)
    legs = {f"{side}_{limb}": direction(-sway, -1, 0) for side in ("left", "right") for limb in ("thigh", "shank")}
    path = np.stack([sway / np.sqrt(1 + sway**2), 0 * TURN, 0 * TURN], -1)
    xy = retarget(performer(STANDING | legs, path=path), BOB)
    ankles = [joint(xy, f"{side}_ankle") for side in ("left", "right")]
    assert joint(xy, "pelvis")[0, 0] == 0.5 and np.ptp(joint(xy, "pelvis")[:, 0]) > 0.1
    assert all(np.ptp(ankle, 0).max() < 0.005 for ankle in ankles)
    assert np.allclose(ankles[0][:, 1], joint(positions(joints("wave", 0, 1), BOB), "left_ankle")[0, 1], atol=GRID)


def test_a_jump_leaves_the_ground_and_a_longer_rise_is_the_sensor_s():
    def rise(*off_the_ground, by=0.25):
        up = np.zeros((FRAMES, 3))
        for frames in off_the_ground:
            up[frames, 1] = by
        low = joint(retarget(performer(STANDING, path=up), ANN), "left_ankle")[:, 1]
        return low[0] - low

    jump, leg = np.zeros(FRAMES), (ANN.leg_ratio - 0.035) * ANN.height
    jump[15:25] = 0.25 * leg
    assert np.allclose(rise(slice(15, 25)), jump, atol=GRID)
    assert np.allclose(rise(slice(15, 35)), 0), "it lasts two thirds of a second"
    assert np.allclose(rise(slice(8, 18), slice(26, 40), by=-0.1), 0), "it comes back to where it stood at first"


@pytest.mark.parametrize("seen_depth", [1.0, 0.0])
def test_a_squat_lowers_the_body_also_where_the_sensor_misses_its_depth(seen_depth):
    down = np.where((TURN > 2) & (TURN < 4), 1.5, 0.0)
    thigh, shank = direction(0, -1, -down), direction(0, -1, down)
    squat = STANDING | {f"{side}_thigh": thigh for side in ("left", "right")}
    squat |= {f"{side}_shank": shank for side in ("left", "right")}
    squat = {name: vectors * [1, 1, seen_depth] for name, vectors in squat.items()}
    xy = retarget(performer(squat), ANN)
    pelvis, ankle = joint(xy, "pelvis")[:, 1], joint(xy, "left_ankle")[:, 1]
    assert np.ptp(ankle) < GRID
    height = (ankle - pelvis) / (ankle - pelvis)[0]
    assert height.min() == pytest.approx(1 / np.hypot(1, 1.5), abs=0.07)


def test_a_single_false_frame_is_taken_out():
    skeleton = performer(STANDING)
    still = retarget(skeleton, ANN)
    skeleton[20] += np.random.RandomState(0).normal(size=(20, 3))
    assert np.allclose(retarget(skeleton, ANN), still, atol=GRID)


@pytest.mark.parametrize("lost", [slice(0, 6), slice(17, 25), slice(34, 40)], ids=["start", "middle", "end"])
def test_a_bone_without_length_keeps_its_direction(lost):
    skeleton = performer(STANDING | {"left_forearm": direction(-1, 1, 0)})
    truth = retarget(skeleton, ANN)
    skeleton[lost, KINECT_JOINTS.index("left_wrist")] = skeleton[lost, KINECT_JOINTS.index("left_elbow")]
    assert np.allclose(retarget(skeleton, ANN), truth, atol=GRID)


def test_a_skeleton_of_one_point_and_of_one_frame_can_be_drawn():
    assert render_skeleton(np.ones((3, 20, 3)), ANN, 16).shape == (3, 16, 16, 3)
    clip = render_skeleton(performer(DANCE)[:1], BOB)
    assert clip.shape == (1, 64, 64, 3) and clip.dtype == np.uint8


@pytest.mark.parametrize(
    ("skeleton", "says"),
    [
        (np.zeros((5, 25, 3)), r"has shape \(5, 25, 3\): pass \(frames, 20, 3\)"),
        (np.zeros((0, 20, 3)), r"has shape \(0, 20, 3\)"),
        (np.full((5, 20, 3), np.nan), "not finite: fill in missing joints first"),
    ],
)
def test_other_skeletons_are_refused(skeleton, says):
    with pytest.raises(ValueError, match=says):
        retarget(skeleton, ANN)


def mat(compress=False, **variables) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, do_compression=compress)
    return file.getvalue()


def test_a_file_is_read_as_frames_of_joints():
    skeleton = performer(DANCE)
    again = read_skeleton(mat(d_skel=skeleton.transpose(1, 2, 0)), "a.mat")
    assert again.dtype == np.float64 and np.array_equal(again, skeleton)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "a.mat is an empty file"),
        (bytes(range(256)) * 4, "a.mat is not a MATLAB file that can be read, or it is damaged"),
        (mat(d_depth=np.zeros((20, 3, 4))), "a.mat has no variable `d_skel`"),
        (
            mat(d_skel=np.zeros((4, 20, 3))),
            r"`d_skel` of a.mat is float64 \(4, 20, 3\), but must be \(20, 3, F\) metres",
        ),
        (mat(d_skel=np.zeros((20, 3))), r"is float64 \(20, 3\), but must be"),
        (mat(d_skel="skeleton"), "but must be"),
        (mat(d_skel={"x": 1.0}), "but must be"),
        (mat(d_skel=np.zeros((20, 3, 4), complex)), "is complex128"),
        (mat(d_skel=np.zeros((20, 3, 0))), "`d_skel` of a.mat has no frames"),
        (mat(d_skel=np.full((20, 3, 4), np.nan)), "`d_skel` of a.mat holds values that are not finite"),
    ],
)
def test_other_files_are_refused_with_a_sentence(content, says):
    with pytest.raises(ValueError, match=says):
        read_skeleton(content, "a.mat")


WHOLE = [mat(compress, d_skel=np.random.RandomState(0).normal(size=(20, 3, 2))) for compress in (False, True)]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=6), st.data())
@example(WHOLE[0], [(192, 0)], None)  # an element type that does not exist crashes scipy's reader, which is C
@example(WHOLE[0], [(193, 1)], None)
def test_damaged_files_are_read_or_refused(whole, changes, data):
    damaged = bytearray(whole)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    if data and data.draw(st.booleans()):
        damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    damaged = bytes(damaged)
    try:
        skeleton = read_skeleton(damaged, "a.mat")
    except ValueError as error:
        assert "a.mat" in str(error)
    else:
        assert skeleton.shape[1:] == (20, 3) and np.isfinite(skeleton).all()


@pytest.mark.skipif(
    not (DATA / "Skeleton.zip").is_file(), reason=f"there is no {DATA}/Skeleton.zip: set DIVID_TEST_DATA"
)
def test_the_real_recordings():
    with zipfile.ZipFile(DATA / "Skeleton.zip") as archive:
        names = [f"Skeleton/a{action}_s{1 + action % 8}_t1_skeleton.mat" for action in range(1, 28)]
        names += [f"Skeleton/a3_s{subject}_t1_skeleton.mat" for subject in range(1, 9)]
        clips = {name: read_skeleton(archive.read(name), name) for name in names}
    figures = {name: retarget(clip, BOB) for name, clip in clips.items()}
    for name, xy in figures.items():
        assert 0.03 < xy.min() and xy.max() < 0.97, f"{name} leaves the frame"
    waves = [figures[f"Skeleton/a3_s{subject}_t1_skeleton.mat"] for subject in range(1, 9)]
    heights = [np.ptp(xy[0, :, 1]) for xy in waves]
    assert np.ptp(heights) < 0.03 * np.mean(heights), "eight performers in one body are of one height"
    for xy in waves:
        moved = [np.ptp(joint(xy, f"{side}_wrist"), 0).max() for side in ("left", "right")]
        assert moved[1] > 0.15 > moved[0], "they wave with the right hand"
        assert joint(xy, "right_wrist")[0, 0] < 0.5 < joint(xy, "left_wrist")[0, 0]
    squat = figures["Skeleton/a27_s4_t1_skeleton.mat"]
    assert np.ptp(joint(squat, "pelvis")[:, 1]) > 0.08
    assert np.ptp(render_skeleton(clips["Skeleton/a27_s4_t1_skeleton.mat"], BOB)[0].mean(-1)) > 0
