"""The loss functions do what their equations say."""

import pytest
import torch
from tiny import random_clips, random_tokens, seeded

from divid_diffusers import SharedNoiseDDPMScheduler
from divid_diffusers.training import losses


TYPES = ["epsilon", "sample", "v_prediction"]


def noised(times):
    scheduler = SharedNoiseDDPMScheduler()
    frames = random_clips()
    noise = scheduler.sample_noise(frames, seeded())
    return frames, noise, scheduler.add_noise(frames, noise, times), scheduler.alphas_cumprod[times]


def recover(prediction_type, noisy, prediction, abar):
    """x_0, written independently of the code under test."""
    signal, spread = abar.sqrt().view(-1, 1, 1, 1, 1), (1 - abar).sqrt().view(-1, 1, 1, 1, 1)
    return {
        "epsilon": (noisy - spread * prediction) / signal,
        "sample": prediction,
        "v_prediction": signal * noisy - spread * prediction,
    }[prediction_type]


@pytest.mark.parametrize("prediction_type", TYPES)
def test_the_clip_is_recovered_from_each_target(prediction_type):
    frames, noise, noisy, abar = noised(torch.tensor([20, 600]))
    target = losses.target(prediction_type, frames, noise, abar)
    torch.testing.assert_close(recover(prediction_type, noisy, target, abar), frames, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction_type", TYPES)
def test_the_scheduler_reads_each_target_as_we_write_it(prediction_type):
    frames, noise, noisy, abar = noised(torch.tensor([300, 300]))
    scheduler = SharedNoiseDDPMScheduler(prediction_type=prediction_type, clip_sample=False)
    step = scheduler.step(losses.target(prediction_type, frames, noise, abar), 300, noisy, seeded())
    torch.testing.assert_close(step.pred_original_sample, frames, rtol=1e-4, atol=1e-4)


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(ValueError, match="`prediction_type` is 'flow': choose 'epsilon', 'v_prediction' or 'sample'"):
        losses.target("flow", *random_clips(), torch.ones(2))


def test_the_loss_of_a_clip_is_the_mean_over_its_frames_of_their_mean_squared_error():
    prediction, target = random_clips(), random_clips(seed=1)
    expected = [
        sum((p - t).square().mean() for p, t in zip(clip, clip_target)) / 3
        for clip, clip_target in zip(prediction, target)
    ]
    torch.testing.assert_close(losses.ddpm_loss(prediction, target), torch.stack(expected))
    assert losses.ddpm_loss(target, target).tolist() == [0, 0]


def test_the_loss_is_computed_in_full_precision():
    prediction, target = random_clips(), random_clips(seed=1)
    assert losses.ddpm_loss(prediction.half(), target.half()).dtype == torch.float32


@pytest.mark.parametrize(("error", "expected"), [(1e-3, 1e-6 / 0.1), (100.0, 2 * (100.0 - 0.1))])
def test_the_huber_loss_is_a_square_below_its_scale_and_straight_above(error, expected):
    target = random_clips()
    loss = losses.ddpm_loss(target + error, target, huber_scale=0.1)
    torch.testing.assert_close(loss, torch.full_like(loss, expected), rtol=2e-3, atol=0)


def test_an_error_counts_more_where_the_frame_differs_from_the_first_up_to_a_limit():
    first = torch.full((1, 1, 3, 1, 3), -0.5)
    frames = first.repeat(1, 2, 1, 1, 1)
    frames[0, 1, :, 0, 0] += torch.tensor([0.1, -0.2, 0.6])
    frames[0, 1, :, 0, 1] += 1.5
    weight = losses.motion_weight(frames, first, 4.0)
    torch.testing.assert_close(weight, torch.tensor([[1.0, 1.0, 1.0], [2.2, 5.0, 1.0]]).reshape(1, 2, 1, 1, 3))


# --- orthogonality -------------------------------------------------------------------------------------------------


def test_orthogonal_tokens_cost_nothing_and_parallel_ones_cost_one():
    axes = torch.eye(4)
    static, across = axes[:2], torch.stack([axes[2:], axes[2:]])
    assert losses.orthogonality_loss(static, across) == 0
    along = torch.stack([-3 * static, 0.1 * static], dim=1)  # opposite is parallel, and length does not matter
    assert losses.orthogonality_loss(static, along) == pytest.approx(1)


@pytest.mark.parametrize("dim", [16, 256])
def test_random_tokens_cost_one_over_their_width(dim):
    static, dynamic = torch.randn(200, dim), torch.randn(200, 10, dim)
    assert losses.orthogonality_loss(static, dynamic).item() == pytest.approx(1 / dim, rel=0.2)


def test_a_token_is_compared_with_the_frames_of_its_own_clip():
    static, dynamic = random_tokens()
    each = [losses.orthogonality_loss(static[i, None], dynamic[i, None]) for i in range(2)]
    torch.testing.assert_close(losses.orthogonality_loss(static, dynamic), sum(each) / 2)


def test_descending_the_term_makes_tokens_orthogonal():
    static, dynamic = (token.requires_grad_() for token in random_tokens())
    optimizer = torch.optim.SGD([static, dynamic], lr=5.0)
    for _ in range(50):
        optimizer.zero_grad()
        losses.orthogonality_loss(static, dynamic).backward()
        optimizer.step()
    assert losses.orthogonality_loss(static, dynamic) < 1e-3


def test_tokens_of_unequal_widths_cannot_be_compared():
    with pytest.raises(ValueError, match="tokens of one width, but s has 8 and d 4"):
        losses.orthogonality_loss(torch.zeros(2, 8), torch.zeros(2, 3, 4))


def test_invariance_is_measured_against_the_distance_between_people():
    static = torch.randn(6, 8)
    assert losses.invariance_loss(static, static) == 0
    pairs = [(a, b) for a in range(6) for b in range(6) if a != b]
    a, b = map(list, zip(*pairs, strict=True))
    between = (static[a] - static[b]).square().sum(1).mean()
    moved = static + torch.tensor([3.0, 4.0, 0, 0, 0, 0, 0, 0])
    torch.testing.assert_close(losses.invariance_loss(moved, static), 25 / between)
    torch.testing.assert_close(losses.invariance_loss(7 * moved, 7 * static), losses.invariance_loss(moved, static))


def test_the_rate_of_s_is_the_divergence_of_its_channel_from_the_prior():
    static = torch.randn(5, 8)
    noisy, prior = torch.distributions.Normal(static, 1.0), torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(noisy, prior).sum(dim=1).mean()
    torch.testing.assert_close(losses.static_rate(static), expected)
