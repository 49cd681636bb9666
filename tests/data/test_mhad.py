"""The depth set is read from its zip, split by clip, the same way every time; a bad zip is refused in a sentence."""

import numpy as np
import pytest
import torch
from tiny import DEPTH_CLIPS, depth_members, write_depth_zip

from divid_diffusers.data.mhad import NUM_TEST_CLIPS, MHADDepth


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_depth_zip(tmp_path_factory.mktemp("mhad") / "depth.zip", depth_members() | {"notes.npy": np.zeros(3)})


def test_an_item_is_the_clip_its_name_says(archive):
    for clip in MHADDepth(archive):
        action, subject, trial = clip["frames"][0, 0, 0, :3].tolist()
        assert clip["clip_id"] == f"a{action}_s{subject}_t{trial}"
        assert (clip["action"], clip["identity"]) == (action - 1, subject - 1)
        assert clip["frames"].shape == (trial + 1, 1, 64, 64) and clip["frames"].dtype == torch.uint8


def test_the_two_splits_together_are_the_set_and_share_no_clip(archive):
    train, test = ({clip["clip_id"] for clip in MHADDepth(archive, split)} for split in ("train", "test"))
    assert len(test) == NUM_TEST_CLIPS and not train & test
    assert train | test == {f"a{a}_s{s}_t{t}" for a, s, t in DEPTH_CLIPS}


def test_the_split_does_not_depend_on_the_order_in_the_zip(archive, tmp_path):
    reversed_zip = write_depth_zip(tmp_path / "reversed.zip", dict(reversed(depth_members().items())))
    splits = [[clip["clip_id"] for clip in MHADDepth(path, "test")] for path in (archive, reversed_zip)]
    assert splits[0] == splits[1]


def test_an_unknown_split_is_refused(archive):
    with pytest.raises(ValueError, match="`split` is 'val': choose 'train' or 'test'"):
        MHADDepth(archive, "val")


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no depth archive at .*nowhere.zip"):
        MHADDepth(tmp_path / "nowhere.zip")


def test_a_file_that_is_no_zip_is_refused(archive, tmp_path):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(ValueError, match="broken.zip is not a zip file, or it is damaged"):
        MHADDepth(broken)


def test_a_zip_of_other_things_is_refused(tmp_path):
    path = write_depth_zip(
        tmp_path / "other.zip", {"a1_s1_t1_depth.npy": np.zeros((2, 64, 64), np.uint8), "b.npy": np.zeros(2)}
    )
    with pytest.raises(ValueError, match="holds 1 members named like .*: is it the packed depth set"):
        MHADDepth(path)


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 64, 64), np.float32), np.zeros((64, 64), np.uint8), np.zeros((0, 64, 64), np.uint8)], ids=str
)
def test_a_clip_of_another_type_or_shape_is_refused_by_name(tmp_path, bad):
    path = write_depth_zip(tmp_path / "bad.zip", depth_members() | {"depth/a1_s1_t1_depth.npy": bad})
    with pytest.raises(ValueError, match="a1_s1_t1_depth.npy in .* must be uint8"):
        MHADDepth(path, "train")
        MHADDepth(path, "test")


def test_pickled_arrays_are_not_opened(tmp_path):
    trap = np.array([{"not": "pixels"}], dtype=object)
    path = write_depth_zip(tmp_path / "trap.zip", dict.fromkeys(depth_members(), trap))
    with pytest.raises(ValueError, match="allow_pickle"):
        MHADDepth(path)
