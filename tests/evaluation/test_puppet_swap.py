import pytest
import torch

from divid_diffusers.data.puppets import Puppets
from divid_diffusers.evaluation.puppet_swap import render_clip, score_swaps


@pytest.fixture(scope="module")
def donors():
    clips = [Puppets(12, split="test")[i] for i in range(12)]
    return clips, clips[5:] + clips[:5]


def true_swaps(static, dynamic):
    return torch.stack(
        [render_clip(s["identity"], d["action"], d["motion_seed"], 10) for s, d in zip(static, dynamic)]
    )


def test_a_perfect_model_is_perfect(donors):
    scores = score_swaps(true_swaps(*donors), *donors)
    assert scores.identity_kept == scores.motion_kept == 1
    assert scores.motion_error == 0 and scores.psnr > 90 and scores.num_swaps == 12


def test_copying_either_donor_earns_one_factor_only(donors):
    static, dynamic = donors
    copied_static = torch.stack([clip["frames"] for clip in static]) / 255
    copied_dynamic = torch.stack([clip["frames"] for clip in dynamic]) / 255
    different = [s["action"] != d["action"] for s, d in zip(static, dynamic)]

    scores = score_swaps(copied_static, *donors)
    assert scores.identity_kept > 0.8 and scores.motion_kept <= 1 - sum(different) / len(different)
    scores = score_swaps(copied_dynamic, *donors)
    assert scores.identity_kept == 0


def test_a_motionless_person_scores_no_motion(donors):
    truth = true_swaps(*donors)
    scores = score_swaps(truth[:, :1].expand_as(truth), *donors)
    assert scores.motion_error == pytest.approx(1) and scores.identity_kept > 0.8
