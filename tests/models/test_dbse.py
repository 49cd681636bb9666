"""DBSE's idea: what is static comes from one frame, what is dynamic from what is left without it."""

import pytest
import torch
from tiny import influence, random_clips, seeded
from tiny_baselines import tiny_baseline

from divid_diffusers import build_baseline


FORMS = ["divid", "published"]


@pytest.mark.parametrize("form", FORMS)
def test_the_static_code_sees_the_first_frame_and_no_other(form):
    clips = random_clips(1, 4).requires_grad_()
    seen = influence(tiny_baseline("dbse", form).encode(clips).static, clips)[0].flatten(1).any(dim=1)
    assert seen.tolist() == [True, False, False, False]


def test_every_dynamic_code_sees_every_frame():
    clips = random_clips(1, 4).requires_grad_()
    dynamic = tiny_baseline("dbse").encode(clips).dynamic
    for frame in range(4):
        assert influence(dynamic[0, frame], clips)[0].flatten(1).any(dim=1).all()


def test_motion_of_a_still_clip_does_not_tell_which_picture_it_shows():
    stills = random_clips(2, 1).expand(-1, 4, -1, -1, -1)
    tokens = tiny_baseline("dbse").encode(stills)
    torch.testing.assert_close(tokens.dynamic[0], tokens.dynamic[1])
    assert not torch.allclose(tokens.static[0], tokens.static[1])


def test_noise_in_place_of_the_first_residual_reaches_the_dynamic_codes_only():
    model = tiny_baseline("dbse")
    embeddings = model.embed(random_clips(2, 3))
    noise = torch.randn(2, embeddings.shape[-1], requires_grad=True)
    static, dynamic = model.posteriors(embeddings, first_residual=noise)
    assert not influence(static.mean, noise).any()
    for frame in range(3):
        assert influence(dynamic.mean[:, frame], noise).any()
    zeros = model.posteriors(embeddings, first_residual=torch.zeros_like(noise))
    assert torch.equal(zeros[1].mean, model.posteriors(embeddings)[1].mean)


def test_the_published_loss_counts_the_first_frame_once_more():
    model, clips = tiny_baseline("dbse", "published"), random_clips(2, 3)
    noise = model.draw_noise(2, 3, seeded())
    terms = model.loss(clips, noise)
    total = 5 * terms["reconstruction"] + terms["first_frame"] + terms["static_kl"] + terms["dynamic_kl"]
    torch.testing.assert_close(terms["loss"], total)
    # Worked again from the samples.
    static, dynamic = model.posteriors(model.embed(clips), first_residual=noise["first_residual"])
    decoded = model.decode(static.sample(noise["static"]), dynamic.sample(noise["dynamic"]))
    squares = ((decoded - clips) / 2).square().sum(dim=(2, 3, 4))
    torch.testing.assert_close(terms["reconstruction"], squares.sum(dim=1).mean())
    torch.testing.assert_close(terms["first_frame"], squares[:, 0].mean())


def test_the_loss_of_the_comparison_has_one_reconstruction():
    model, clips = tiny_baseline("dbse"), random_clips(2, 3)
    terms = model.loss(
        clips, model.draw_noise(2, 3, seeded()), perceptual=lambda x, y: (x - y).square().mean((1, 2, 3))
    )
    assert set(terms) == {"loss", "reconstruction", "perceptual", "static_kl", "dynamic_kl"}
    total = terms["reconstruction"] + 10 * terms["perceptual"] + 5 * terms["static_kl"] + terms["dynamic_kl"]
    torch.testing.assert_close(terms["loss"], total)


def test_the_published_form_starts_from_weights_of_a_hundredth_and_the_comparison_does_not():
    torch.manual_seed(0)
    for form, published in (("published", True), ("divid", False)):
        layers = [
            each
            for each in tiny_baseline("dbse", form).modules()
            if isinstance(each, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear)
        ]
        weights = torch.cat([each.weight.detach().flatten() for each in layers])
        assert len(layers) >= 8 and (0.0097 < weights.std() < 0.0103 and abs(weights.mean()) < 1e-3) == published
        assert all((each.bias == 0).all() for each in layers) == published


def test_the_published_prior_is_64_wide():
    assert build_baseline("dbse", "published").dynamic_prior.lstm.hidden_size == 64
    assert build_baseline("dbse", "divid", "paper").dynamic_prior.lstm.hidden_size == 256


def test_an_augmented_view_is_what_the_dynamic_codes_are_read_from_and_no_other():
    model, clips = tiny_baseline("dbse", "published"), random_clips(4, 3)
    embeddings, view = model.embed(clips[:2]), model.embed(clips[2:])
    static, dynamic = model.posteriors(embeddings, view)
    assert torch.equal(static.mean, model.posteriors(embeddings)[0].mean)
    assert torch.equal(dynamic.mean, model.posteriors(view)[1].mean)
