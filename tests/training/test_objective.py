"""The whole objective, with its options, on tiny models."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from tiny import SIZE, random_clips, random_tokens, tiny_encoder, tiny_unet
from trainer.arguments import parse_args

from divid_diffusers import SharedNoiseDDPMScheduler
from divid_diffusers.training import step_noise
from divid_diffusers.training.objective import Trainee, objective


def evaluate(*flags, with_model=False):
    torch.manual_seed(0)
    args = parse_args(["--num_frames", "3", "--train_batch_size", "2", *flags])
    model = Trainee(tiny_encoder(), tiny_unet(prediction_type=args.prediction_type))
    noise = step_noise.draw(args, 0, 0, 0, 1, 3, SIZE, 16, 1000)
    scheduler = SharedNoiseDDPMScheduler(prediction_type=args.prediction_type)
    result = objective(model, random_clips(batch=2, frames=3), noise, scheduler, args)
    return (result, model) if with_model else result


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


def test_a_huber_scale_changes_the_denoising_term_only():
    plain, huber = evaluate(), evaluate("--huber_scale", "0.1")
    assert not torch.allclose(plain.per_clip, huber.per_clip)
    assert torch.equal(plain.loss_orth, huber.loss_orth)


def test_a_disguise_reaches_d_and_not_s():
    plain, disguised = evaluate(), evaluate("--dynamic_recolour", "0.5", "--dynamic_stretch", "0.2")
    assert not torch.allclose(plain.loss_orth, disguised.loss_orth)


def test_half_of_the_static_frames_are_mirrored_and_no_dynamic_one():
    args = parse_args(["--train_batch_size", "2000", "--static_mirror"])
    share = step_noise.draw(args, 0, 0, 0, 1, 1, 1, 1, 1000).mirror.float().mean()
    assert 0.45 < share < 0.55
    clips, always = random_clips(batch=2, frames=3), torch.ones(2, dtype=torch.bool)
    args = parse_args(["--num_frames", "3", "--train_batch_size", "2", "--static_mirror"])
    seen = {}

    def model(static_clips, dynamic_clips, noisy, noise, last_timestep):
        seen.update(static=static_clips, dynamic=dynamic_clips)
        return noisy, *random_tokens(), None

    noise = replace(step_noise.draw(args, 0, 0, 0, 1, 3, SIZE, 16, 1000), mirror=always)
    objective(model, clips, noise, SharedNoiseDDPMScheduler(), args)
    assert torch.equal(seen["static"], clips.flip(-1)) and torch.equal(seen["dynamic"], clips)


def test_a_bottleneck_sends_s_through_noise_and_charges_for_it():
    plain, narrow = evaluate(), evaluate("--static_bottleneck", "0.01")
    assert torch.equal(plain.rate, narrow.rate) and torch.equal(plain.loss_orth, narrow.loss_orth)
    assert not torch.allclose(plain.loss_ddpm, narrow.loss_ddpm)
    assert torch.allclose(narrow.loss, narrow.loss_ddpm + 0.1 * narrow.loss_orth + 0.01 * narrow.rate)


def test_timestep_bias_draws_high_noise_more_often():
    args = parse_args(["--train_batch_size", "2000", "--timestep_bias", "3"])
    biased = step_noise.draw(args, 0, 0, 0, 1, 1, 1, 1, 1000).timesteps
    args.timestep_bias = 1.0
    uniform = step_noise.draw(args, 0, 0, 0, 1, 1, 1, 1, 1000).timesteps
    assert abs((uniform >= 900).float().mean() - 0.1) < 0.03
    assert abs((biased >= 900).float().mean() - 0.1 ** (1 / 3)) < 0.03
    assert 0 <= biased.min() and biased.max() <= 999


INVARIANCE = ["--prediction_type", "sample", "--invariance_weight", "0.5", "--orthogonality_weight", "0"]


def test_the_invariance_loss_trains_what_reads_s_and_nothing_else():
    result, model = evaluate(*INVARIANCE, with_model=True)
    assert torch.allclose(result.loss, result.loss_ddpm + 0.5 * result.loss_inv) and result.loss_inv > 0
    result.loss_inv.backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {"encoder.static_encoder.4.weight", "encoder.image_proj.weight"} <= reached
    assert not any(name.startswith(("unet.", "encoder.lstm", "encoder.dynamic_proj")) for name in reached)


def test_the_swaps_that_s_is_read_from_are_of_its_own_clip_and_the_motion_of_another():
    torch.manual_seed(0)
    seen = {}

    def unet(noisy, timestep, static, dynamic, **_):
        seen.update(static=static, dynamic=dynamic)
        return UNet2DConditionOutput(sample=noisy.expand(-1, dynamic.shape[1], -1, -1, -1))

    model, clips = Trainee(tiny_encoder(), unet), random_clips(batch=2, frames=3)
    args = parse_args(["--num_frames", "3", "--train_batch_size", "2"])
    noise = step_noise.draw(args, 0, 0, 0, 1, 3, SIZE, 16, 1000)
    _, static, dynamic, static_of_swaps = model(clips, None, noise.noise, noise, 999)
    torch.testing.assert_close(seen["static"], static)
    torch.testing.assert_close(seen["dynamic"], dynamic[[1, 0], noise.frames[[1, 0], 0]][:, None])
    torch.testing.assert_close(static_of_swaps, model.encoder(noise.noise).static)


def test_without_an_invariance_weight_nothing_is_swapped():
    assert evaluate("--prediction_type", "sample").loss_inv == 0


@pytest.mark.parametrize(
    "flags", [["--prediction_type=epsilon"], ["--prediction_type=sample", "--train_batch_size=1"]]
)
def test_an_invariance_loss_that_means_nothing_is_refused(flags, capsys):
    with pytest.raises(SystemExit):
        parse_args(["--invariance_weight=1", *flags])
    assert "--invariance_weight needs --prediction_type sample" in capsys.readouterr().err
