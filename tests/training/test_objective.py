"""The whole objective, with its options, on tiny models."""

import pytest
import step_noise
import torch
from arguments import parse_args
from objective import Trainee, objective
from tiny import SIZE, random_clips, tiny_encoder, tiny_unet

from divid_diffusers import SharedNoiseDDPMScheduler


def evaluate(*flags):
    torch.manual_seed(0)
    args = parse_args(["--num_frames", "3", "--train_batch_size", "2", *flags])
    model = Trainee(tiny_encoder(), tiny_unet(prediction_type=args.prediction_type))
    noise = step_noise.draw(args, 0, 0, 0, 1, 3, SIZE, 1000)
    scheduler = SharedNoiseDDPMScheduler(prediction_type=args.prediction_type)
    return objective(model, random_clips(batch=2, frames=3), noise, scheduler, args)


def test_the_loss_is_its_two_terms():
    result = evaluate("--orthogonality_weight", "0.5")
    assert torch.allclose(result.loss, result.loss_ddpm + 0.5 * result.loss_orth)
    assert torch.allclose(result.loss_ddpm, result.per_clip.mean())


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_min_snr_weighs_the_denoising_term_only(prediction_type):
    plain = evaluate("--prediction_type", prediction_type)
    weighted = evaluate("--prediction_type", prediction_type, "--snr_gamma", "0.0001")
    assert torch.equal(plain.per_clip, weighted.per_clip)
    assert not torch.allclose(plain.loss_ddpm, weighted.loss_ddpm) and torch.isfinite(weighted.loss)


def test_motion_weight_raises_the_loss_and_leaves_tokens_alone():
    plain, weighted = evaluate(), evaluate("--motion_weight", "4")
    assert (weighted.per_clip > plain.per_clip).all()
    assert torch.equal(plain.loss_orth, weighted.loss_orth)


def test_a_disguise_reaches_d_and_not_s():
    plain, disguised = evaluate(), evaluate("--dynamic_recolour", "0.5", "--dynamic_stretch", "0.2")
    assert not torch.allclose(plain.loss_orth, disguised.loss_orth)


def test_timestep_bias_draws_high_noise_more_often():
    args = parse_args(["--train_batch_size", "2000", "--timestep_bias", "3"])
    biased = step_noise.draw(args, 0, 0, 0, 1, 1, 1, 1000).timesteps
    args.timestep_bias = 1.0
    uniform = step_noise.draw(args, 0, 0, 0, 1, 1, 1, 1000).timesteps
    assert abs((uniform >= 900).float().mean() - 0.1) < 0.03
    assert abs((biased >= 900).float().mean() - 0.1 ** (1 / 3)) < 0.03
    assert 0 <= biased.min() and biased.max() <= 999
