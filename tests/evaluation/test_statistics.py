"""Intervals that hold as often as they say."""

import math

import numpy as np
import pytest

from divid_diffusers.evaluation.statistics import mean_interval, pigeonhole_interval, wilson_interval


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


def right_swaps(random, people: int, bonus: float, clips: int = 5, count: int = 300):
    """
    Whether each swap of a draw of clips is right, who its donors are, and how often such swaps are right over all
    people.
    """
    pairs = np.argwhere(~np.eye(people * clips, dtype=bool))
    pairs = pairs[random.permutation(len(pairs))[:count]] // clips
    same = pairs[:, 0] == pairs[:, 1]
    skill = random.uniform(0.1, 0.6, people)  # of whom the static donor is
    right = random.rand(len(pairs)) < skill[pairs[:, 0]] + bonus * same
    return right.astype(float), pairs, 0.35 + bonus * same.mean()


def sums_of_people(random, people: int, bonus: float, clips: int = 5, count: int = 300):
    """A value to which both donors add, and which is higher within a person, for some people more than for others."""
    _, pairs, _ = right_swaps(random, people, 0, clips, count)
    of_person, within = random.randn(people), bonus * (1 + random.randn(people) / 2)
    same = pairs[:, 0] == pairs[:, 1]
    return of_person[pairs].sum(axis=1) + within[pairs[:, 0]] * same + random.randn(count), pairs, bonus * same.mean()


@pytest.mark.parametrize("people", [5, 8, 20])
@pytest.mark.parametrize("bonus", [0.0, 0.4])
@pytest.mark.parametrize("draw", [right_swaps, sums_of_people])
def test_intervals_over_people_hold_from_five_people_up_with_and_without_a_bonus_for_the_same_person(
    people, bonus, draw
):
    random = np.random.RandomState(7)
    held = 0
    for seed in range(200):
        values, pairs, truth = draw(random, people, bonus if draw is right_swaps else 10 * bonus)
        mean, low, high = pigeonhole_interval(values, pairs, draws=200, seed=seed)
        assert low <= mean <= high
        held += low <= truth <= high
    assert held >= 0.92 * 200, held


def test_the_share_of_pairs_within_a_person_is_no_source_of_uncertainty():
    people = np.arange(8)
    pairs = np.array([(a, b) for a in people for b in people])
    same = (pairs[:, 0] == pairs[:, 1]).astype(float)
    assert pigeonhole_interval(same, pairs) == pytest.approx((1 / 8, 1 / 8, 1 / 8))


@pytest.mark.parametrize("count", [5, 6, 10, 30])
def test_intervals_of_a_mean_hold_from_five_values_up(count):
    random = np.random.RandomState(0)
    held = sum(abs(mean) <= half for mean, half in (mean_interval(random.randn(count)) for _ in range(1000)))
    assert 0.93 <= held / 1000 <= 0.97


def test_an_interval_that_cannot_be_told_has_no_ends():
    pairs = np.array([(a, b) for a in range(4) for b in range(4)])
    assert pigeonhole_interval(pairs[:, 0] % 2, pairs) == (0.5, -math.inf, math.inf)
    # One pair within a person among many: most draws of people lack it.
    rare = np.array([(a, b) for a in range(9) for b in range(9) if a != b] + [(0, 0)])
    mean, low, high = pigeonhole_interval(np.arange(len(rare)) % 2, rare)
    assert math.isfinite(low) and math.isfinite(high) and low < mean < high


def test_shares_stay_between_none_and_all():
    random = np.random.RandomState(0)
    pairs = random.randint(0, 6, (200, 2))
    _, low, high = pigeonhole_interval((pairs[:, 0] == 3).astype(float), pairs)
    assert low == 0 and high < 1
    assert pigeonhole_interval((pairs[:, 0] == 3) - 1.0, pairs)[1] < -1, "a difference may be of any size"


@pytest.mark.parametrize(
    "values, pairs", [([], np.zeros((0, 2))), ([1.0, np.nan], [(0, 1), (1, 0)]), ([1.0], [(0, 1), (1, 0)])]
)
def test_values_that_are_not_one_finite_number_for_each_pair_are_refused(values, pairs):
    with pytest.raises(ValueError, match="one finite value for each pair"):
        pigeonhole_interval(values, np.array(pairs))


def test_one_person_is_refused():
    with pytest.raises(ValueError, match="at least 2 are needed"):
        pigeonhole_interval(np.ones(3), np.zeros((3, 2)))


def test_two_values_have_the_interval_of_two_values_and_one_has_none():
    mean, half = mean_interval([0.0, 2.0])
    assert mean == 1 and half == pytest.approx(12.7062, abs=1e-3)  # t of one degree of freedom
    assert mean_interval([3]) == (3, math.inf)


def test_a_proportion_may_be_all_or_nothing_and_no_more():
    assert wilson_interval(5, 5)[1] == pytest.approx(1) and wilson_interval(0, 5)[0] == pytest.approx(0)
    for successes, total in ((6, 5), (-1, 5), (0, 0)):
        with pytest.raises(ValueError, match="is no proportion"):
            wilson_interval(successes, total)


def test_the_interval_over_people_is_that_of_its_docstring_drawn_pair_by_pair():
    people, draws = 6, 400
    pairs = np.array([(a, b) for a in range(people) for b in range(people) if a != b])
    values = np.random.RandomState(1).rand(len(pairs)) * 3  # beyond 1: nothing is cut
    often = np.random.RandomState(0).multinomial(people, np.full(people, 1 / people), draws)
    weights = np.array([[drawn[a] * drawn[b] for a, b in pairs] for drawn in often])
    means = (weights * values).sum(1) / weights.sum(1)
    t = 2.5705818  # Student's, of 5 degrees of freedom
    half = t * means.std(ddof=1) * people / (people - 1)
    mean, low, high = pigeonhole_interval(values, pairs, draws)
    assert (mean, low, high) == pytest.approx((values.mean(), values.mean() - half, values.mean() + half))


@pytest.mark.parametrize("people, told", [(4, False), (5, True)])
def test_five_people_are_the_fewest_that_have_an_interval(people, told):
    pairs = np.array([(a, b) for a in range(people) for b in range(people) if a != b])
    assert math.isfinite(pigeonhole_interval(pairs[:, 0], pairs)[1]) == told


def test_shares_have_shares_for_ends():
    pairs = np.array([(a, b) for a in range(6) for b in range(6) if a != b])
    values = np.where(pairs[:, 0] == 0, 0.9, 0.0)  # all hangs on one person
    assert pigeonhole_interval(values, pairs)[1] == 0
    assert pigeonhole_interval(0.9 - values, pairs)[2] == 1
    assert pigeonhole_interval(values * 2, pairs)[1] < 0 and pigeonhole_interval(values - 0.1, pairs)[1] < 0
