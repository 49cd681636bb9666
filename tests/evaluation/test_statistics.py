"""Intervals that hold as often as they say."""

import numpy as np
import pytest

from divid_diffusers.evaluation.statistics import pigeonhole_interval, wilson_interval


def swaps_of_uneven_people(seed: int, people: int = 30, count: int = 300):
    """Some people are swapped well and others badly, whatever the pair: right half of the time over all people."""
    random = np.random.RandomState(seed)
    pairs = np.array([(a, b) for a in range(people) for b in range(people) if a != b])
    pairs = pairs[random.permutation(len(pairs))[:count]]
    return (random.rand(count) < random.rand(people)[pairs[:, 0]]).astype(float), pairs


def test_an_interval_over_people_holds_for_other_people_and_one_over_pairs_does_not():
    over_people, over_pairs = 0, 0
    for seed in range(40):
        right, pairs = swaps_of_uneven_people(seed)
        _, low, high = pigeonhole_interval(right, pairs, draws=400, seed=seed)
        over_people += low <= 0.5 <= high
        low, high = wilson_interval(int(right.sum()), len(right))
        over_pairs += low <= 0.5 <= high
    assert over_people >= 36 and over_pairs <= 32, "of 40; 95 % would be 38"


def test_what_is_the_same_for_everybody_has_no_uncertainty():
    _, pairs = swaps_of_uneven_people(0)
    assert pigeonhole_interval(np.ones(len(pairs)), pairs) == pytest.approx((1, 1, 1))


def test_two_models_that_fail_on_the_same_people_differ_by_little_however_uneven_people_are():
    right, pairs = swaps_of_uneven_people(0)
    better = right.copy()
    better[np.flatnonzero(right == 0)[::10]] = 1
    mean, low, high = pigeonhole_interval(better - right, pairs)
    assert mean == pytest.approx((better - right).mean()) and 0 < low < mean < high < 0.1


def test_one_person_is_refused():
    with pytest.raises(ValueError, match="at least 2 are needed"):
        pigeonhole_interval(np.ones(3), np.zeros((3, 2)))
