import math

import pytest
import torch

from divid_diffusers.evaluation.reconstruction import motion_error, psnr
from divid_diffusers.evaluation.statistics import mean_interval, wilson_interval


def test_psnr_of_a_known_error():
    truth = torch.zeros(2, 3, 1, 4, 4)
    decoded = torch.stack([torch.full((3, 1, 4, 4), 0.1), torch.full((3, 1, 4, 4), 0.01)])
    assert torch.allclose(psnr(truth, decoded), torch.tensor([20.0, 40.0]), atol=1e-4)


def test_motion_error_scores_a_perfect_a_still_and_a_backward_clip_as_they_deserve():
    truth = torch.rand(1, 5, 3, 8, 8)
    still = truth[:, :1].expand_as(truth)
    opposite = 2 * still - truth
    other_person = truth + 0.2  # the same motion on another appearance
    assert motion_error(truth, truth).item() == 0
    assert motion_error(truth, other_person).item() == pytest.approx(0, abs=1e-5)
    assert motion_error(truth, still).item() == pytest.approx(1)
    assert motion_error(truth, opposite).item() == pytest.approx(2)


def test_wilson_interval_agrees_with_published_values_and_stays_in_range():
    low, high = wilson_interval(29, 102)  # the paper's joint accuracy of DiViD
    assert (round(low, 3), round(high, 3)) == (0.206, 0.378)
    assert wilson_interval(0, 10)[0] == 0 and wilson_interval(10, 10)[1] == 1
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(11, 10)


def test_mean_interval():
    mean, half = mean_interval([1.0, 3.0])
    assert mean == 2 and half == pytest.approx(1.96)
    assert mean_interval([5.0]) == (5.0, math.inf)
