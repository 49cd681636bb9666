"""
What both baselines do alike: their shapes, who sees what, their prior, and the terms of their loss, worked by hand.
"""

import math

import pytest
import torch
from tiny import SIZE, influence, random_clips, same_weights, seeded
from tiny_baselines import DYNAMIC, FORMS, METHODS, STATIC, loss_options, tiny_baseline

from divid_diffusers import build_baseline
from divid_diffusers.models.sequential_vae import STANDARD, DiagonalGaussian, DynamicPrior


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


def gaussian(*shape, seed=0):
    generator = seeded(seed)
    return DiagonalGaussian(torch.randn(*shape, generator=generator), torch.randn(*shape, generator=generator))


def random_tokens(batch=2, frames=3):
    return torch.randn(batch, STATIC, generator=seeded()), torch.randn(batch, frames, DYNAMIC, generator=seeded(1))


# --- Gaussians and the prior ---------------------------------------------------------------------------------------


def test_the_kl_divergence_is_that_of_the_textbook():
    wide = DiagonalGaussian(torch.tensor([1.0, 0.0]), torch.tensor([math.log(4), 0.0]))
    assert wide.kl(STANDARD).item() == pytest.approx((1 + 4 - 1 - math.log(4)) / 2)
    other = DiagonalGaussian(torch.tensor([3.0, 0.0]), torch.tensor([math.log(2), 0.0]))
    assert wide.kl(other).item() == pytest.approx((math.log(2) - math.log(4) + (4 + 4) / 2 - 1) / 2)


def test_the_kl_divergence_is_zero_between_equals_and_positive_otherwise():
    one, other = gaussian(50, 4), gaussian(50, 4, seed=1)
    torch.testing.assert_close(one.kl(one), torch.zeros(50))
    assert (one.kl(other) > 0).all() and one.kl(other).shape == (50,)


def test_a_sample_is_so_many_standard_deviations_from_the_mean():
    wide = DiagonalGaussian(torch.tensor([1.0]), torch.tensor([math.log(4)]))
    assert wide.sample(torch.tensor([0.0])).item() == 1 and wide.sample(torch.tensor([1.5])).item() == pytest.approx(4)


def test_rolling_the_prior_out_draws_from_what_it_says_of_its_own_samples():
    prior, noise = DynamicPrior(DYNAMIC, 7), torch.randn(2, 4, DYNAMIC)
    drawn, means = prior.rollout(noise)
    torch.testing.assert_close(prior(drawn).sample(noise), drawn)
    torch.testing.assert_close(prior(drawn).mean, means)


def test_the_prior_of_a_frame_sees_the_frames_before_it_and_no_other():
    prior, dynamic = DynamicPrior(DYNAMIC, 7), torch.randn(1, 4, DYNAMIC, requires_grad=True)
    for frame in range(4):
        seen = influence(prior(dynamic).mean[:, frame], dynamic)[0].any(dim=1)
        assert seen.tolist() == [before < frame for before in range(4)]


# --- encoding and decoding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("frames", [1, 4])
def test_a_clip_of_any_length_becomes_tokens_and_a_clip_again(method, form, frames, channels):
    model = tiny_baseline(method, form, in_channels=channels)
    clips = random_clips(2, frames, channels)
    tokens = model.encode(clips)
    assert tokens.static.shape == (2, STATIC) and tokens.dynamic.shape == (2, frames, DYNAMIC)
    assert model.decode(tokens.static, tokens.dynamic).shape == clips.shape
    assert torch.equal(model(clips), model.decode(tokens.static, tokens.dynamic))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_real_sizes_take_frames_of_64_pixels(method, form, channels):
    model = build_baseline(method, form, in_channels=channels).eval()
    clips = torch.rand(1, 1, channels, 64, 64) * 2 - 1
    with torch.no_grad():
        assert model(clips).shape == clips.shape
    widths = model.config.static_dim, model.config.dynamic_dim
    assert widths == {"spyl": (256, 32), "dbse": (256, 192 if form == "divid" else 256)}[method]


def test_the_published_form_decodes_to_the_range_of_pixels(method):
    model = tiny_baseline(method, "published")
    static, dynamic = random_tokens()
    decoded = model.decode(1e6 * static, dynamic)
    assert decoded.min() >= -1 and decoded.max() <= 1 and decoded.min() < -0.5 < 0.5 < decoded.max()


def test_a_frame_is_decoded_from_its_own_dynamic_token_and_the_static_one(method, form):
    static, dynamic = (token.requires_grad_() for token in random_tokens(2, 3))
    decoded = tiny_baseline(method, form).decode(static, dynamic)
    of_dynamic = influence(decoded[0, 1], dynamic).any(dim=-1)
    assert of_dynamic.tolist() == [[False, True, False], [False, False, False]]
    assert influence(decoded[0, 1], static).any(dim=-1).tolist() == [True, False]


def test_clips_of_a_batch_do_not_meet(method, form):
    clips = random_clips().requires_grad_()
    tokens = tiny_baseline(method, form).encode(clips)
    for token in (tokens.static[0], tokens.dynamic[0]):
        moved = influence(token, clips)
        assert moved[0].any() and not moved[1].any()


def test_encoding_draws_nothing(method, form):
    model = tiny_baseline(method, form)
    one, other = model.encode(random_clips()), model.encode(random_clips())
    assert torch.equal(one.static, other.static) and torch.equal(one.dynamic, other.dynamic)


def test_codes_are_drawn_from_the_priors_again_and_again_alike(method):
    model = tiny_baseline(method)
    assert model.sample_static(3, seeded()).shape == (3, STATIC)
    drawn = model.sample_dynamic(3, 4, seeded())
    assert drawn.shape == (3, 4, DYNAMIC) and torch.equal(drawn, model.sample_dynamic(3, 4, seeded()))
    assert not torch.equal(drawn, model.sample_dynamic(3, 4, seeded(1)))
    many = model.sample_static(4000, seeded())
    assert many.mean().abs() < 0.05 and (many.std() - 1).abs() < 0.05


def test_clips_that_do_not_fit_are_refused_in_a_sentence(method):
    model = tiny_baseline(method)
    for clips in (random_clips(channels=1), random_clips()[0], random_clips()[:, :0], torch.zeros(1, 1, 3, 8, 8)):
        with pytest.raises(ValueError, match=r"takes clips of shape \(batch, frames, 3, 16, 16\)"):
            model.encode(clips)


@pytest.mark.parametrize(
    ("form", "fields", "message"),
    [
        ("other", {}, "`form` is 'other'; choose one of divid, published"),
        ("published", {"sample_size": 32}, "takes frames of 4 * 2^levels = 16 pixels"),
        ("divid", {"sample_size": 15}, "must be a multiple of"),
    ],
)
def test_fields_that_cannot_work_are_refused_in_a_sentence(form, fields, message):
    with pytest.raises(ValueError, match=message.replace("*", r"\*").replace("^", r"\^")):
        METHODS["dbse"](dynamic_dim=4, block_out_channels=(8, 16), **{"norm_num_groups": 4, "form": form} | fields)


@pytest.mark.parametrize("name", [{"method": "dsvae"}, {"method": "dbse", "preset": "huge"}])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="choose one of"):
        build_baseline(**name)


def test_a_saved_model_comes_back_with_its_weights_and_not_as_the_other_method(method, form, tmp_path):
    model = tiny_baseline(method, form)
    model.save_pretrained(tmp_path)
    loaded = METHODS[method].from_pretrained(tmp_path)
    assert same_weights(model, loaded) and loaded.config.form == form
    torch.testing.assert_close(loaded(random_clips()), model(random_clips()), rtol=0, atol=1e-5)
    other = METHODS["spyl" if method == "dbse" else "dbse"]
    with pytest.raises(ValueError, match="This is the configuration of a"):
        other.from_pretrained(tmp_path)


# --- the loss ------------------------------------------------------------------------------------------------------


def loss(model, clips, noise, **options):
    return model.loss(clips, noise, **loss_options(model), **options)


def test_the_loss_of_pixels_is_a_sum_in_the_range_of_its_form():
    clips, decoded = torch.full((2, 3, 3, SIZE, SIZE), -1.0), torch.zeros(2, 3, 3, SIZE, SIZE)
    numbers = 3 * SIZE**2
    assert tiny_baseline(form="divid").frame_errors(decoded, clips).tolist() == [[1.0 * numbers] * 3] * 2
    assert tiny_baseline(form="published").frame_errors(decoded, clips).tolist() == [[0.25 * numbers] * 3] * 2


def test_kl_terms_are_zero_for_a_posterior_like_the_prior_and_count_every_frame_otherwise(method):
    model, clips = tiny_baseline(method), random_clips(2, 3)
    static_head = model.static_head if method == "spyl" else model.static_encoder[-1]
    for head in (static_head, model.dynamic_head, model.dynamic_prior.head):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    noise = model.draw_noise(2, 3, seeded())
    terms = loss(model, clips, noise)
    assert terms["static_kl"].item() == pytest.approx(0, abs=1e-6)
    assert terms["dynamic_kl"].item() == pytest.approx(0, abs=1e-6)
    # Means of 2 in every dimension: KL = 2^2 / 2 each.
    static_head.bias.data[:STATIC] = 2
    model.dynamic_head.bias.data[:DYNAMIC] = 2
    terms = loss(model, clips, noise)
    assert terms["static_kl"].item() == pytest.approx(2 * STATIC)
    assert terms["dynamic_kl"].item() == pytest.approx(2 * DYNAMIC * 3)


def test_the_perceptual_distance_counts_as_often_as_there_are_pixels(method):
    model, clips = tiny_baseline(method), random_clips(2, 3)
    noise = model.draw_noise(2, 3, seeded())

    def perceptual(frames, targets):
        assert frames.shape == targets.shape == (6, 3, SIZE, SIZE)
        return torch.full((6,), 0.5)

    plain = loss(model, clips, noise)
    seen = loss(model, clips, noise, perceptual=perceptual, perceptual_weight=10)
    assert "perceptual" not in plain
    assert seen["perceptual"].item() == 0.5 * 3 * 3 * SIZE**2
    assert (seen["loss"] - plain["loss"]).item() == pytest.approx(10 * seen["perceptual"].item(), rel=1e-4)


def test_the_loss_is_a_function_of_clips_and_noise(method, form):
    model, clips = tiny_baseline(method, form), random_clips()
    losses = [loss(model, clips, model.draw_noise(2, 3, seeded(seed)))["loss"] for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    for name, draw in model.draw_noise(4, 3, seeded()).items():
        assert len(draw) == 4, name


def test_a_few_steps_lower_the_loss_of_a_batch(method, form):
    model = tiny_baseline(method, form).train()
    clips = random_clips(4, 2)[..., :1, :1].repeat(1, 1, 1, SIZE, SIZE)  # each frame of one colour
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(15):
        terms = loss(model, clips, model.draw_noise(4, 2, seeded(step)))
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
        assert all(term.isfinite() for term in terms.values())
    assert losses[-1] < 0.8 * losses[0]


def test_recomputing_activations_changes_no_gradient(method):
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = tiny_baseline(method).train()
        if recompute:
            model.enable_gradient_checkpointing()
        loss(model, random_clips(), model.draw_noise(2, 3, seeded()))["loss"].backward()
        gradients.append(model.frame_encoder.encoder.conv_in.weight.grad)
    torch.testing.assert_close(*gradients)
