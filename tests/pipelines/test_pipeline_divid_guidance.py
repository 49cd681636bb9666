"""Guidance per factor."""

import diffusers
import pytest
import torch
from calls import distance, pt
from tiny import SIZE, random_tokens, seeded, tiny_pipeline


def guidable():
    pipe = tiny_pipeline(static_dropout=0.1, dynamic_dropout=0.1)
    for token in (pipe.unet.null_static, pipe.unet.null_dynamic):
        torch.nn.init.normal_(token)
    return pipe


@pytest.mark.parametrize("scales", [(2.0, 1.0), (1.0, 3.0), (2.0, 3.0), (0.0, 1.0)], ids=str)
def test_guidance_is_the_combination_of_predictions_it_says(scales):
    pipe, (static, dynamic) = guidable(), random_tokens(1, 1)
    latents = torch.randn(1, 1, 3, SIZE, SIZE, generator=seeded(3))
    w_s, w_d = scales

    def predict(drop_static=False, drop_dynamic=False):
        drops = {"drop_static": torch.tensor([drop_static]), "drop_dynamic": torch.tensor([drop_dynamic])}
        return pipe.unet(latents, 999, static=static, dynamic=dynamic, **drops).sample

    with torch.no_grad():
        plain = predict()
        guided = plain + (w_s - 1) * (plain - predict(True, False)) + (w_d - 1) * (plain - predict(False, True))
    # One step from t = 999 all the way down; clip_sample off keeps it linear.
    pipe.scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    pipe.scheduler.set_timesteps(1)
    expected = pipe.scheduler.step(guided, 999, latents).prev_sample
    seen = {}
    pt(
        pipe,
        static,
        dynamic,
        num_inference_steps=1,
        latents=latents,
        static_guidance_scale=w_s,
        dynamic_guidance_scale=w_d,
        callback_on_step_end=lambda _, __, ___, tensors: seen.update(tensors),
    )
    torch.testing.assert_close(seen["latents"], expected[0], rtol=1e-4, atol=1e-3)


def test_a_scale_of_one_is_no_guidance_and_others_change_the_clip():
    pipe, tokens = guidable(), random_tokens()
    plain = pt(pipe, *tokens)
    assert torch.equal(plain, pt(pipe, *tokens, static_guidance_scale=1, dynamic_guidance_scale=1))
    for factor in ("static", "dynamic"):
        assert distance(plain, pt(pipe, *tokens, **{f"{factor}_guidance_scale": 3.0})) > 1e-3


@pytest.mark.parametrize("factor", ["static", "dynamic"])
def test_a_checkpoint_that_never_learned_null_tokens_cannot_be_guided(pipe, factor):
    with pytest.raises(ValueError, match=f"`{factor}_guidance_scale` is 2.0, but this checkpoint never learned"):
        pipe(*random_tokens(), **{f"{factor}_guidance_scale": 2.0})


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(scale):
    with pytest.raises(ValueError, match=f"`dynamic_guidance_scale` is {scale}: it must be a number"):
        guidable()(*random_tokens(), dynamic_guidance_scale=scale)
