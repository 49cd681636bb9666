"""A clip to the noise that gives it back."""

import diffusers
import pytest
import torch
from calls import distance, pt
from tiny import random_clips, tiny_pipeline


A, B = random_clips(1, 4, seed=10), random_clips(1, 3, seed=11)


def teach(pipe):
    """Make the UNet a good denoiser of independent pixels of variance 1/3, which is what `random_clips` are."""
    abars, kind = pipe.scheduler.alphas_cumprod, pipe.unet.config.prediction_type

    def forward(sample, timestep, *_, return_dict=True, **__):
        abar = abars[int(timestep)]
        clean = abar.sqrt() / 3 / (abar / 3 + 1 - abar) * sample + 0.05 * torch.tanh(3 * sample.flip(-1))
        noise = (sample - abar.sqrt() * clean) / (1 - abar).sqrt()
        out = {
            "epsilon": noise,
            "sample": clean,
            "v_prediction": abar.sqrt() * noise - (1 - abar).sqrt() * clean,
        }[kind]
        return diffusers.models.unets.unet_2d_condition.UNet2DConditionOutput(out) if return_dict else (out,)

    pipe.unet.forward = forward


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_an_inverted_clip_is_reproduced_from_its_noise_and_better_with_more_steps(prediction_type):
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", prediction_type=prediction_type)
    pipe = tiny_pipeline(scheduler, prediction_type=prediction_type)
    teach(pipe)

    def error(latents, steps):
        again = pt(pipe.reconstruct, A, latents=latents, num_inference_steps=steps)
        return (again - (A / 2 + 0.5)).square().mean().item()

    noises = {steps: pipe.invert(A, num_inference_steps=steps) for steps in (20, 100)}
    assert noises[100].shape == A.shape
    assert noises[100].std() == pytest.approx(1, abs=0.15)
    assert error(noises[20], 20) < error(None, 20) / 20
    assert error(noises[100], 100) < min(error(noises[20], 20) / 5, 1e-3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_inversion_goes_through_the_network_with_the_clips_own_tokens(prediction_type):
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", prediction_type=prediction_type)
    pipe = tiny_pipeline(scheduler, prediction_type=prediction_type)
    noise = pipe.invert(A, num_inference_steps=4)
    assert noise.isfinite().all()
    assert torch.equal(noise, pipe.invert(A, num_inference_steps=4))
    assert distance(noise, pipe.invert(A, static_frame=1, num_inference_steps=4)) > 1e-3


def test_inversion_needs_clips_of_one_length(pipe):
    assert pipe.invert(random_clips(), num_inference_steps=2).shape == random_clips().shape
    with pytest.raises(ValueError, match="Inversion takes clips of one length"):
        pipe.invert([A[0], B[0]])


@pytest.fixture
def ddim():
    return tiny_pipeline(diffusers.DDIMScheduler(timestep_spacing="trailing"))


def test_a_swap_may_start_from_the_inverted_noise_of_the_dynamic_clip(ddim):
    start = ddim.invert(A, num_inference_steps=2)
    swapped = pt(ddim.swap, B, A, noise_from="dynamic", num_inference_steps=2)
    assert torch.equal(swapped, pt(ddim.swap, B, A, latents=start, num_inference_steps=2))
    plain = pt(ddim.swap, B, A, num_inference_steps=2)
    assert torch.equal(plain, pt(ddim.swap, B, A, noise_from=None, num_inference_steps=2))
    assert distance(swapped, plain) > 1e-3
    assert pt(ddim.swap, B, A, noise_from="dynamic").shape == A.shape  # the checkpoint's own number of steps


def test_one_dynamic_clip_lends_its_noise_to_all_static_clips(ddim):
    both = pt(ddim.swap, [A[0], B[0]], A, noise_from="dynamic", num_inference_steps=2)
    one = pt(ddim.swap, B, A, noise_from="dynamic", num_inference_steps=2)
    torch.testing.assert_close(both[1:], one, atol=1e-4, rtol=0)


def test_a_start_from_inverted_noise_that_cannot_be_is_refused(pipe, ddim):
    with pytest.raises(ValueError, match="`noise_from` is 'static': choose 'dynamic'"):
        ddim.swap(A, A, noise_from="static")
    with pytest.raises(ValueError, match="but `latents` are given, too"):
        ddim.swap(A, A, noise_from="dynamic", latents=torch.zeros(1, 1, 3, 16, 16))
    with pytest.raises(ValueError, match="needs the sampler that inversion runs backwards"):
        pipe.swap(A, A, noise_from="dynamic")
    with pytest.raises(ValueError, match="Inversion takes clips of one length"):
        ddim.swap([A[0], B[0]], [A[0], B[0]], noise_from="dynamic")


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.5, float("nan"), None])
def test_a_number_of_steps_that_inversion_cannot_take_is_refused(pipe, steps):
    with pytest.raises(ValueError, match=f"`num_inference_steps` is {steps}"):
        pipe.invert(A, num_inference_steps=steps)


def test_an_error_of_the_network_near_t_0_makes_inverted_noise_wider_than_noise_and_more_steps_do():
    """So the documentation says: x_T is no draw from N(0, I)."""
    pipe = tiny_pipeline(
        diffusers.DDIMScheduler(timestep_spacing="trailing", prediction_type="sample"), prediction_type="sample"
    )

    def off_by_a_tenth(sample, timestep, *_, **__):
        abar = pipe.scheduler.alphas_cumprod[int(timestep)]
        return diffusers.models.unets.unet_2d_condition.UNet2DConditionOutput(
            abar.sqrt() / 3 / (abar / 3 + 1 - abar) * sample + 0.1 * sample.flip(-1)
        )

    pipe.unet.forward = off_by_a_tenth
    few, many = (pipe.invert(A, num_inference_steps=steps).std() for steps in (20, 100))
    assert 1 < few < many
