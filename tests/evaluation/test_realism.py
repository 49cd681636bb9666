"""A classifier tells collages from clips, and cannot tell clips from clips."""

import pytest
import torch

from divid_diffusers.evaluation.realism import disjoint, two_sample_test


def features(count, shift=0.0, seed=0):
    return torch.randn(count, 20, generator=torch.Generator().manual_seed(seed)) + shift


def test_what_is_alike_cannot_be_told_apart_and_what_differs_can():
    share, low, high = two_sample_test(features(150), features(400, seed=1))
    assert low < 0.5 < high and share < 0.6
    assert two_sample_test(features(150), features(150, 3.0, seed=1))[0] == 1


def test_too_few_clips_say_nothing_and_broken_features_are_refused():
    assert two_sample_test(features(9), features(100)) is None
    with pytest.raises(ValueError, match="NaN or infinite"):
        two_sample_test(features(20), features(20) * float("nan"))


def test_no_donor_of_a_swap_is_in_the_real_sample():
    pairs = [(a, b) for a in range(20) for b in range(20) if a != b]
    real, places = disjoint(20, pairs, seed=1)
    assert len(real) == 10 and len(places) == 90
    assert not set(real) & {clip for place in places for clip in pairs[place]}
