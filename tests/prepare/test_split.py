"""Splits that evaluation can use, or that say why it cannot."""

import hashlib

import numpy as np
import pytest
from preparation import Clip
from split import hold_out_validation, num_test_clips, random_test_ids, split_faults

from divid_diffusers.data.mhad import NEVER_RELEASED, NUM_TEST_CLIPS


def clips(**classes):
    """By id, the labels of as many clips as each class is said to have: `walk=3`."""
    return {f"{name}{i}": {"action": name} for name, count in classes.items() for i in range(count)}


def test_the_published_rule_is_kept_where_it_leaves_nothing_to_wish():
    labels = clips(walk=20, run=20)
    ids = sorted(labels)
    first = {ids[i] for i in np.random.RandomState(3).permutation(40)[:8]}
    assert random_test_ids(ids, 8, 3) == random_test_ids(ids[::-1], 8, 3, labels) == first


@pytest.mark.parametrize("seed", range(8))
def test_a_split_of_few_clips_has_two_kinds_in_test_and_two_of_each_in_training(seed):
    labels = clips(walk=4, run=3, sit=1)
    test = random_test_ids(list(labels), 2, seed, labels)
    assert {labels[name]["action"] for name in test} == {"walk", "run"}
    assert test == random_test_ids(list(labels), 2, seed, labels)


def test_eleven_clips_leave_two_for_test_and_three_leave_one():
    assert [num_test_clips(0.1, count) for count in (2, 3, 4, 11, 30, 861)] == [1, 1, 2, 2, 3, 86]


def test_the_test_clips_of_mhad_are_those_of_all_figures_that_are_told():
    ids = {f"a{a}_s{s}_t{t}" for a in range(1, 28) for s in range(1, 9) for t in range(1, 5)} - {*NEVER_RELEASED}
    test = random_test_ids(list(ids), NUM_TEST_CLIPS, 0)
    assert hashlib.sha256(" ".join(sorted(test)).encode()).hexdigest().startswith("dc2c541a399c6fa9")


def some(train, test, validation=0):
    splits = ["train"] * train + ["test"] * test + ["validation"] * validation
    return [Clip(f"c{i}", "-", split, {"identity": "ann"}) for i, split in enumerate(splits)]


def test_validation_clips_are_taken_from_those_of_training_and_never_from_test():
    clips, rule = hold_out_validation(some(train=30, test=10))
    splits = {
        split: [clip.clip_id for clip in clips if clip.split == split] for split in ("train", "validation", "test")
    }
    assert {split: len(ids) for split, ids in splits.items()} == {"train": 27, "validation": 3, "test": 10}
    assert splits["test"] == [f"c{i}" for i in range(30, 40)] and "3 of the others for validation" in rule


def test_what_the_user_validates_on_stays():
    clips = some(train=30, test=10, validation=2)
    assert hold_out_validation(clips) == (clips, "")


def test_a_set_that_can_spare_none_says_so():
    clips, rule = hold_out_validation(some(train=7, test=2))
    assert clips == some(train=7, test=2) and "7 training clips can spare none" in rule
    assert split_faults([{}] * 7, [], "validation")[0].startswith("no clip is kept for validation: training will show")


def faults(train, test):
    return split_faults(*([{"action": name} for name in names] for names in (train, test)))


@pytest.mark.parametrize(
    "train, test, fault",
    [
        ("aabb", "a", "a single clip is kept for test"),
        ("aabb", "", "no clip is kept for test"),
        ("aabb", "aa", "all test clips have one action"),
        ("aab", "ab", "1 of 2 classes of action in test have fewer than two training clips"),
    ],
)
def test_what_evaluation_cannot_measure_is_said(train, test, fault):
    assert len(faults(train, test)) == 1 and faults(train, test)[0].startswith(fault)


def test_a_split_that_can_be_measured_has_no_faults():
    assert faults("aabb", "ab") == faults("aaaa", "aa") == split_faults([{}] * 4, [{}] * 2) == []
