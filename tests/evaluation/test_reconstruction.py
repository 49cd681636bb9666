import math

import pytest
import torch
import torch.nn.functional as F

from divid_diffusers.evaluation.reconstruction import motion_error, perceptual_distance, psnr, ssim
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


def test_ssim_of_known_values():
    grey, white = torch.full((1, 2, 3, 12, 16), 0.5), torch.ones(1, 2, 3, 12, 16)
    c1 = 0.01**2
    assert ssim(grey, white).item() == pytest.approx(
        (2 * 0.5 + c1) / (0.25 + 1 + c1), abs=1e-5
    )  # no structure: means only
    clips = torch.rand(3, 2, 3, 12, 16)
    assert torch.allclose(ssim(clips, clips), torch.ones(3))
    assert torch.equal(ssim(clips, clips.flip(0)), ssim(clips.flip(0), clips))
    assert ssim(clips, 1 - clips).max() < -0.5
    with pytest.raises(ValueError, match="11x11 window; frames of 10x16"):
        ssim(clips[..., :10, :], clips[..., :10, :])


def test_ssim_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics", reason="a reference for tests only")
    truth = torch.rand(2, 2, 3, 20, 24)
    decoded = (truth + 0.2 * torch.randn(truth.shape)).clamp(0, 1)
    reference = [
        metrics.structural_similarity(
            a, b, data_range=1, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(truth.flatten(0, 1).double().numpy(), decoded.flatten(0, 1).double().numpy())
    ]
    assert torch.allclose(ssim(truth, decoded).double(), torch.tensor(reference).reshape(2, 2).mean(dim=1), atol=1e-5)


def test_perceptual_distance_of_known_values():
    truth = torch.rand(2, 3, 3, 8, 8)
    truth[1] = torch.tensor([1.0, 0, 0])[:, None, None]
    decoded = truth.clone()
    decoded[1, 0] = torch.tensor([0, 0.5, 0])[:, None, None]  # one frame of three turns from red to dark green

    def features(frames):
        return [frames, F.avg_pool2d(frames, 4)]

    distance = perceptual_distance(truth, decoded, features)
    assert distance.tolist() == pytest.approx([0, 2 / 3])  # unit vectors at right angles are 2 apart, squared
    assert perceptual_distance(truth, truth / 2, features).max() < 1e-6  # the direction counts, not the length
    with pytest.raises(ValueError, match="list of maps"):
        perceptual_distance(truth, decoded, lambda frames: frames)
    with pytest.raises(ValueError, match="list of maps"):
        perceptual_distance(truth, decoded, lambda frames: [frames.mean(dim=(2, 3))])


def test_perceptual_distance_grows_with_the_damage():
    net = torch.nn.Conv2d(3, 8, 3)
    truth = torch.rand(2, 2, 3, 8, 8)
    noise = torch.randn(truth.shape)
    near, far = (perceptual_distance(truth, truth + scale * noise, lambda x: [net(x)]) for scale in (0.05, 0.5))
    assert (0 < near).all() and (near < far).all()


def test_wilson_interval_agrees_with_published_values_and_stays_in_range():
    low, high = wilson_interval(29, 102)  # the paper's joint accuracy of DiViD
    assert (round(low, 3), round(high, 3)) == (0.206, 0.378)
    assert wilson_interval(0, 10)[0] == 0 and wilson_interval(10, 10)[1] == 1
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(11, 10)


def test_mean_interval():
    mean, half = mean_interval([1.0, 3.0])
    assert mean == 2 and half == pytest.approx(12.706, abs=1e-3), "Student's t with one degree of freedom, not z"
    assert mean_interval([5.0]) == (5.0, math.inf)
    with pytest.raises(ValueError, match="no value"):
        mean_interval([])
