"""Principal directions of tokens that were made to have some, and what labels explain of them."""

import numpy as np
import pytest

from divid_diffusers.training.directions import explain, explained_share, principal_directions


rng = np.random.default_rng(0)


def test_directions_are_those_of_most_variance_as_long_as_a_standard_deviation():
    axes = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    tokens = rng.normal(size=(20_000, 3)) * [3.0, 1.0, 0.2] @ axes[:3] + 7
    found, shares = principal_directions(tokens, 2)
    assert found.shape == (2, 5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [3, 1], rtol=0.03)
    np.testing.assert_allclose(np.abs(found @ axes[:2].T), [[3, 0], [0, 1]], atol=0.06)
    np.testing.assert_allclose(shares, np.array([9, 1]) / 10.04, atol=0.01)


def test_the_sign_does_not_depend_on_the_order_of_clips():
    tokens = rng.normal(size=(50, 4)) * [4, 3, 2, 1]
    one, other = principal_directions(tokens, 4)[0], principal_directions(tokens[::-1], 4)[0]
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert (one.max(1) == np.abs(one).max(1)).all()


def test_there_are_no_more_directions_than_dimensions_in_which_tokens_vary():
    tokens = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 6))
    assert principal_directions(tokens, 5)[0].shape == (2, 6)


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (np.ones((1, 3)), "There are 1 tokens"),
        (np.full((4, 3), np.nan), "NaN or infinity"),
        (np.ones((4, 3)), "the same token"),
    ],
)
def test_tokens_without_directions_are_refused(tokens, sentence):
    with pytest.raises(ValueError, match=sentence):
        principal_directions(tokens, 2)


def test_a_label_explains_all_half_or_nothing():
    label = rng.integers(4, size=4000)
    assert explained_share(label * 2.0, label) == pytest.approx(1)
    half = np.array([-1.0, 1, -1, 1])[label] + rng.normal(size=4000)
    assert explained_share(half, label) == pytest.approx(0.5, abs=0.03)
    assert explained_share(rng.normal(size=4000), label) == pytest.approx(0, abs=0.01)


def test_many_classes_explain_nothing_by_their_number_alone():
    label = np.arange(200) % 80  # R^2 is 0.4 by chance
    assert np.mean([explained_share(rng.normal(size=200), label) for _ in range(50)]) < 0.1


def test_numbers_and_colours_explain_by_a_straight_line():
    colour = rng.random((500, 3))
    assert explained_share(colour @ [1.0, -2.0, 0.5], colour) == pytest.approx(1)
    assert explained_share(colour[:, 0] ** 2, colour[:, 0]) == pytest.approx(0.93, abs=0.03)


def test_a_label_that_cannot_tell_says_nothing():
    assert explained_share(rng.normal(size=10), np.arange(10)) is None  # every clip a class of its own
    assert explained_share(rng.normal(size=10), np.zeros(10, int)) is None
    assert explained_share(np.zeros(10), np.arange(10) % 2) is None


def test_each_direction_is_explained_by_the_label_that_it_was_made_of():
    hair, top = rng.integers(3, size=(2, 300))
    tokens = np.stack([3.0 * hair, 1.0 * top], 1)
    directions, _ = principal_directions(tokens, 2)
    first, second = explain(tokens, directions, {"hair": hair, "top": top, "clip": np.arange(300)})
    assert first["hair"] > 0.95 > 0.1 > first["top"] and second["top"] > 0.95 > 0.1 > second["hair"]
    assert "clip" not in first
