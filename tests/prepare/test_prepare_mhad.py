"""
Every form in which UTD-MHAD comes gives the clips its file names say, split by the rule; what is damaged is named.
"""

import io
import json
import os
import zipfile
from pathlib import Path

import mhad
import numpy as np
import pytest
from datasets import load_from_disk
from media import damaged_files, numbered_frames, write_video
from scipy.io import savemat
from tiny import DEPTH_CLIPS, depth_members, write_depth_zip


DATA = Path(os.environ.get("DIVID_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "mhad"


def prepare(modality, source, target, *flags):
    mhad.main([f"--modality={modality}", f"--input={source}", f"--output_dir={target}", "--num_workers=1", *flags])
    return load_from_disk(target)


def mat(**variables) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, do_compression=True)
    return file.getvalue()


def test_packed_depth_is_split_by_clip_the_same_way_every_time(tmp_path):
    archive = write_depth_zip(tmp_path / "depth.zip", depth_members() | {"notes.npy": np.zeros(3)})
    sets = prepare("depth", archive, tmp_path / "set")
    assert {split: len(rows) for split, rows in sets.items()} == {
        "train": len(DEPTH_CLIPS) - 105,
        "validation": 2,
        "test": 103,
    }
    ids = [f"a{a}_s{s}_t{t}" for a, s, t in DEPTH_CLIPS]
    assert set(sets["test"]["clip_id"]) == {
        sorted(ids)[i] for i in np.random.RandomState(0).permutation(len(ids))[:103]
    }
    for row in [*sets["train"], *sets["validation"], *sets["test"]]:
        frames = np.array(row["frames"], np.uint8)
        action, subject, trial = frames[0, 0, :3, 0]
        assert row["clip_id"] == f"a{action}_s{subject}_t{trial}" and frames.shape == (trial + 1, 64, 64, 1)
        assert (row["action"], row["identity"]) == (action - 1, subject - 1)
    assert sets["test"].features["action"].names[22] == "walk"
    assert "RandomState(0)" in sets["train"].info.description


def test_the_cross_subject_split_tests_on_people_never_seen(tmp_path):
    archive = write_depth_zip(tmp_path / "depth.zip", depth_members())
    sets = prepare("depth", archive, tmp_path / "set", "--split=cross_subject")
    assert set(sets["train"]["identity"]) == {0, 2, 4, 6} and set(sets["test"]["identity"]) == {1, 3, 5, 7}
    assert set(sets["validation"]["identity"]) <= {0, 2, 4, 6}


def test_the_same_recordings_are_validated_on_whatever_the_modality_and_their_kind_is_trained_on(tmp_path):
    chosen = {}
    for modality, suffix in (("depth", "depth.mat"), ("skeleton", "skeleton.mat")):
        folder = tmp_path / modality
        folder.mkdir()
        for a, s, t in ((a, s, t) for a in range(1, 28) for s in range(1, 9) for t in range(1, 5)):
            (folder / f"a{a}_s{s}_t{t}_{suffix}").touch()
        words = [f"--modality={modality}", f"--input={folder}", f"--output_dir={tmp_path / 'set'}"]
        clips = mhad.make_plan(mhad.parse_args(words)).clips
        chosen[modality] = {clip.clip_id for clip in clips if clip.split == "validation"}
        kinds = {clip.clip_id.rpartition("_")[0] for clip in clips if clip.split == "train"}
        assert len(chosen[modality]) == 76 and {clip.rpartition("_")[0] for clip in chosen[modality]} <= kinds
    assert chosen["depth"] == chosen["skeleton"]


def test_raw_depth_in_a_folder_and_in_a_zip_gives_the_same_clips(tmp_path):
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "Depth.zip", "w") as archive:
        for trial in (1, 2, 3):
            depth = rng.integers(0, 4000, (240, 320, trial), dtype=np.uint16)
            archive.writestr(f"Depth/a5_s1_t{trial}_depth.mat", mat(d_depth=depth))
        archive.extractall(tmp_path / "folder")
    from_zip = prepare("depth", tmp_path / "Depth.zip", tmp_path / "one", "--num_test=1")
    from_folder = prepare("depth", tmp_path / "folder", tmp_path / "two", "--num_test=1")
    for split in ("train", "test"):
        assert from_zip[split].data.table.equals(from_folder[split].data.table)


def test_colour_is_the_middle_of_the_frame_or_the_crop_of_others(tmp_path):
    frames = np.zeros((4, 480, 640, 3), np.uint8)
    frames[:, :, 156:492, 1] = 200  # what --crop keeps
    for trial in (1, 2):
        write_video(tmp_path / f"a1_s2_t{trial}_color.avi", frames, "mjpeg")
    whole = prepare("rgb", tmp_path, tmp_path / "one", "--num_test=1")["train"][0]
    cropped = prepare("rgb", tmp_path, tmp_path / "two", "--num_test=1", "--crop")["train"][0]
    whole, cropped = (np.array(row["frames"], np.uint8) for row in (whole, cropped))
    assert whole.shape == cropped.shape == (4, 64, 64, 3)
    assert cropped[..., 1].min() > 180 and whole[:, :, 0, 1].max() < 20 < whole[:, :, 32, 1].min()


def test_skeletons_are_performed_by_drawn_people(tmp_path):
    rng = np.random.default_rng(0)
    pose = rng.normal(size=(20, 3, 1)) * 0.2 + np.linspace(1, -1, 20)[:, None, None] * [[[0], [1], [0]]]
    for subject in range(1, 9):
        skeleton = pose + rng.normal(size=(20, 3, 6)) * 0.02
        (tmp_path / f"a6_s{subject}_t1_skeleton.mat").write_bytes(mat(d_skel=skeleton))
    sets = prepare("skeleton", tmp_path, tmp_path / "set", "--num_test=2", "--num_people=3")
    assert len(sets["train"]) == 6 and np.array(sets["train"][0]["frames"]).shape == (6, 64, 64, 3)
    assert sets["train"].features["identity"].names == ["0", "1", "2"]
    assert set(sets["train"]["performer"]) | set(sets["test"]["performer"]) == set(range(8))


@pytest.mark.parametrize(
    ("modality", "suffix"), [("depth", "depth.mat"), ("skeleton", "skeleton.mat"), ("rgb", "color.avi")]
)
def test_damaged_recordings_are_skipped_by_name_and_the_rest_goes_on(tmp_path, modality, suffix):
    folder = tmp_path / "files"
    folder.mkdir()
    if modality == "rgb":
        whole = write_video(tmp_path / "whole.avi", numbered_frames(12), "mjpeg").read_bytes()
    elif modality == "depth":
        whole = mat(d_depth=np.random.default_rng(0).integers(0, 4000, (240, 320, 2), dtype=np.uint16))
    else:
        joints = np.random.default_rng(0).normal(size=(20, 3, 5))
        whole = mat(d_skel=joints)
    damaged = damaged_files(whole)
    for trial in (1, 2, 3):
        (folder / f"a1_s1_t{trial}_{suffix}").write_bytes(whole)
    for number, content in enumerate(damaged.values(), start=1):
        (folder / f"a2_s{number}_t1_{suffix}").write_bytes(content)
    sets = prepare(modality, folder, tmp_path / "set", "--num_test=2")
    report = json.loads((tmp_path / "set" / "preparation.json").read_text())
    kept = {clip for rows in sets.values() for clip in rows["clip_id"]}
    assert {"a1_s1_t1", "a1_s1_t2", "a1_s1_t3"} <= kept
    for number in (1, 3, 4, 5, 6):  # a video that is cut or overwritten may still have frames
        reason = report["skipped"][f"a2_s{number}_t1"]
        assert f"a2_s{number}_t1_{suffix}" in reason
    assert report["skipped"]["a8_s1_t4"] == "was never released (corrupt recording)"
    assert "released recordings are not in files" in report["skipped"]["others"]


def test_a_damaged_member_of_a_zip_is_skipped(tmp_path):
    path = write_depth_zip(tmp_path / "depth.zip", depth_members())
    content = bytearray(path.read_bytes())
    at = content.index(b"a3_s3_t1_depth.npy") + 200
    content[at] ^= 255
    path.write_bytes(content)
    prepare("depth", path, tmp_path / "set")
    report = json.loads((tmp_path / "set" / "preparation.json").read_text())
    assert (
        "is damaged in depth.zip" in report["skipped"]["a3_s3_t1"]
        and sum(report["clips"].values()) == len(DEPTH_CLIPS) - 1
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input=nowhere.zip"], "There is no zip file or folder at nowhere.zip"),
        (["--input={tmp}/text.zip"], "neither a folder nor a whole zip file"),
        (["--input={tmp}/empty"], "holds no file named like 'a1_s1_t1_depth.mat'"),
        (["--input={tmp}/depth.zip", "--num_test=112"], "Cannot keep 112 of 112 clips"),
    ],
)
def test_what_cannot_work_is_refused_before_work_starts(tmp_path, flags, message):
    (tmp_path / "text.zip").write_text("text")
    (tmp_path / "empty").mkdir()
    write_depth_zip(tmp_path / "depth.zip", depth_members())
    with pytest.raises(SystemExit, match=message):
        prepare("depth", "unused", tmp_path / "set", *[flag.format(tmp=tmp_path) for flag in flags])
    assert not (tmp_path / "set").exists()


@pytest.mark.skipif(not DATA.is_dir(), reason=f"UTD-MHAD is not at {DATA}; DIVID_TEST_DATA names another place")
def test_the_official_files_and_the_packed_set_give_identical_frames(tmp_path):
    raw = prepare("depth", DATA / "Depth", tmp_path / "raw", "--num_test=1")
    with zipfile.ZipFile(DATA / "depth64_u8.zip") as archive:
        for row in [*raw["train"], *raw["test"]]:
            packed = np.load(io.BytesIO(archive.read(f"{row['clip_id']}_depth.npy")))
            assert np.array_equal(np.array(row["frames"], np.uint8)[..., 0], packed)
    assert len(raw["train"]) + len(raw["test"]) == 6
