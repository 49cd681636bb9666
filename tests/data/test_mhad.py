"""
File names say which recording it is; depth becomes grey as the docstring says; another file is refused in a sentence.
"""

import io

import numpy as np
import pytest
from scipy.io import savemat

from divid_diffusers.data.mat_file import read_mat
from divid_diffusers.data.mhad import ACTIONS, Recording, read_depth


def mat(**variables) -> bytes:
    file = io.BytesIO()
    savemat(file, variables)
    return file.getvalue()


def test_a_file_name_says_action_subject_and_trial():
    recording = Recording.of("Depth/a23_s6_t2_depth.mat")
    assert (recording.action, recording.subject, recording.trial) == (23, 6, 2) and recording.clip_id == "a23_s6_t2"
    assert ACTIONS[recording.action - 1] == "walk" and len(ACTIONS) == 27
    for name in ("a1_s1_t1_color.avi", "x/y/a1_s1_t1_skeleton.mat", "a1_s1_t1_depth.npy"):
        assert Recording.of(name) == Recording(1, 1, 1)
    for name in (
        "a28_s1_t1_depth.mat",
        "a1_s9_t1_depth.mat",
        "a1_s1_t5_depth.mat",
        "ba1_s1_t1_depth.mat",
        "a1_s1_t1.mat",
    ):
        assert Recording.of(name) is None


def test_depth_becomes_nearness():
    depth = np.zeros((240, 320, 3), np.uint16)
    depth[:, :, 1], depth[:, :, 2] = 1200, 60000  # nearest, beyond the farthest
    depth[:, :40], depth[:, 280:] = 2500, 2500  # cut away
    frames = read_depth(mat(d_depth=depth), "a.mat")
    assert frames.shape == (3, 64, 64) and frames.dtype == np.uint8
    assert [np.unique(frame).tolist() for frame in frames] == [[0], [255], [40]]
    depth[:, 40:100, 1] = 2595  # 16 columns of pixels, 1395 mm past the nearest: 255 - 1395 * 215 / 3000 = 155.025
    frame = read_depth(mat(d_depth=depth), "a.mat")[1]
    assert (frame[:, :16] == 155).all() and (frame[:, 16:] == 255).all()


def test_pixels_are_averages_over_areas():
    depth = np.zeros((240, 320, 1), np.uint16)
    depth[:, 40:43] = 1200  # 3 of the first pixel's 3.75 columns
    assert (read_depth(mat(d_depth=depth), "a.mat")[0, :, 0] == round(255 * 3 / 3.75)).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.mat is an empty file"),
        (b"\x07\x00 not matlab" * 30, "a.mat is not a MATLAB file that can be read, or it is damaged"),
        (mat(d_skel=np.zeros((20, 3, 4))), "a.mat has no variable `d_depth`: is it a file of this modality"),
        (
            b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(99),
            "a.mat is a MATLAB 7.3 file .*v7",
        ),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "a.mat is a MATLAB 7.3 file .HDF5.*save.file, 'd_depth', '-v7'"),
        (mat(d_depth=np.zeros((240, 320))), r"`d_depth` of a.mat is float64 \(240, 320\), but must be"),
        (mat(d_depth=np.zeros((240, 320, 0))), "but must be"),
        (mat(d_depth=np.array(["text"])), "but must be"),
    ],
)
def test_another_file_is_refused_in_a_sentence(content, message):
    with pytest.raises(ValueError, match=message):
        read_depth(content, "a.mat")


def test_a_damaged_file_never_escapes_as_another_error():
    whole = mat(d_depth=np.random.default_rng(0).integers(0, 5000, (240, 320, 2), dtype=np.uint16))
    rng = np.random.default_rng(1)
    for _ in range(60):
        content = bytearray(whole[: rng.integers(1, len(whole))])
        for position in rng.integers(0, min(len(content), 300), 4):
            content[position] = rng.integers(256)
        try:
            read_mat(bytes(content), "d_depth", "a.mat")
        except ValueError as error:
            assert "a.mat" in str(error)


def with_type(kind: int, size: int | None = None) -> bytes:
    """A file whose numbers are said to be an element of another type."""
    content = bytearray(mat(d_depth=np.zeros((2, 3, 4), np.uint16)))
    at = content.rindex(np.array([4, 48], "<u4").tobytes())  # uint16, 48 bytes
    content[at : at + 4] = kind.to_bytes(4, "little")
    if size is not None:
        content[at + 4 : at + 8] = size.to_bytes(4, "little")
    return bytes(content)


@pytest.mark.parametrize(
    "content", [with_type(14, 0), with_type(15, 0), with_type(8), with_type(250), with_type(4, 2**31)]
)
def test_a_damaged_tag_does_not_crash_the_process(content):
    with pytest.raises(ValueError, match="a.mat is not a MATLAB file that can be read, or it is damaged"):
        read_mat(content, "d_depth", "a.mat")


def test_cells_and_structs_beside_the_variable_are_no_damage():
    others = {
        "c": np.array([1, "two", np.zeros((2, 2))], object),
        "s": {"a": 1.0, "b": np.zeros(3)},
        "z": np.array([1 + 2j]),
    }
    assert read_mat(mat(d_depth=np.ones((2, 3)), **others), "d_depth", "a.mat").shape == (2, 3)
