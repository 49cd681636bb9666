"""The two measures of a reconstruction say what their docstrings promise."""

import pytest
import torch
from tiny import random_clips

from divid_diffusers.evaluation.reconstruction import motion_error, psnr


CLIPS = random_clips(3, 4) / 2 + 0.5


def test_psnr_of_a_known_error_is_known():
    wrong = CLIPS + torch.tensor([0.1, 0.01, 0.0]).view(3, 1, 1, 1, 1)
    assert psnr(CLIPS, wrong).tolist() == pytest.approx([20, 40, 100], abs=1e-2)


def test_perfect_motion_has_no_error_whatever_the_person():
    repainted = CLIPS + torch.rand(3, 1, 3, 16, 16)  # the same change in every frame
    assert motion_error(CLIPS, repainted).tolist() == pytest.approx([0, 0, 0], abs=1e-5)


def test_a_motionless_clip_scores_one_and_the_wrong_motion_more():
    still = CLIPS[:, :1].expand_as(CLIPS)
    assert motion_error(CLIPS, still).tolist() == pytest.approx([1, 1, 1])
    assert (motion_error(CLIPS, CLIPS.roll(1, dims=0)) > 1).all()


def test_clips_without_motion_can_be_measured():
    still = CLIPS[:, :1].expand_as(CLIPS)
    assert motion_error(still, still).tolist() == [0, 0, 0]
