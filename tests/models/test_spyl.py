"""SPYL's idea: codes of the whole clip, told apart by contrast with clips that the model draws itself."""

import math

import pytest
import torch
from tiny import influence, random_clips, seeded
from tiny_baselines import STATIC, tiny_baseline

from divid_diffusers.models.sequential_vae import DiagonalGaussian
from divid_diffusers.models.spyl import farthest, info_nce, mutual_information, pairwise_kl


def gaussian(*shape, seed=0):
    generator = seeded(seed)
    return DiagonalGaussian(torch.randn(*shape, generator=generator), torch.randn(*shape, generator=generator))


@pytest.mark.parametrize("form", ["divid", "published"])
def test_both_codes_see_every_frame(form):
    clips = random_clips(1, 4).requires_grad_()
    tokens = tiny_baseline("spyl", form).encode(clips)
    assert influence(tokens.static, clips)[0].flatten(1).any(dim=1).all()
    for frame in range(4):
        assert influence(tokens.dynamic[0, frame], clips)[0].flatten(1).any(dim=1).all()


# --- mutual information --------------------------------------------------------------------------------------------


def told_apart_by(distance, clips=3, frames=2, num_train_clips=10):
    """The estimate for posteriors whose means are so far from each other, in both codes."""
    offsets = distance * torch.arange(float(clips))
    static = DiagonalGaussian(offsets[:, None].expand(-1, 4), torch.zeros(clips, 4))
    dynamic = DiagonalGaussian(offsets[:, None, None].expand(-1, frames, 5), torch.zeros(clips, frames, 5))
    return mutual_information(static, static.mean, dynamic, dynamic.mean, num_train_clips).item()


def test_codes_that_tell_the_clip_share_the_entropy_of_the_batch():
    # Equal posteriors say nothing of which clip it is; distinct ones share log B. The rest is the estimate's known
    # offset, log M.
    assert told_apart_by(0) == pytest.approx(math.log(10), abs=1e-5)
    assert told_apart_by(100) == pytest.approx(math.log(3 * 10), abs=1e-5)
    assert told_apart_by(0) < told_apart_by(0.5) < told_apart_by(100)


def test_lowering_the_mutual_information_moves_both_codes():
    static, dynamic = gaussian(3, 4), gaussian(3, 2, 5, seed=1)
    means = static.mean.requires_grad_(), dynamic.mean.requires_grad_()
    mutual_information(static, static.mean, dynamic, dynamic.mean, 10).backward()
    assert all(mean.grad.any() for mean in means)


# --- contrast ------------------------------------------------------------------------------------------------------


def test_info_nce_is_the_cross_entropy_of_finding_the_positive():
    anchor = torch.tensor([[2.0, 0.0]])
    aside = torch.tensor([[[0.0, 1.0], [0.0, 3.0], [0.0, -1.0]]])
    # cosines 1 and 0, divided by the temperature 0.5
    expected = -math.log(math.exp(2) / (math.exp(2) + 3))
    assert info_nce(anchor, 5 * anchor, aside).item() == pytest.approx(expected, rel=1e-5)
    assert info_nce(anchor, -anchor, aside) > info_nce(anchor, anchor, aside)


def test_pairwise_divergences_are_those_of_the_pairs():
    anchors, pool = gaussian(3, 4), gaussian(5, 4, seed=1)
    pairs = [DiagonalGaussian(anchors.mean[[i]], anchors.log_variance[[i]]).kl(pool) for i in range(3)]
    torch.testing.assert_close(pairwise_kl(anchors, pool), torch.stack(pairs), rtol=1e-4, atol=1e-4)


def test_the_farthest_half_of_the_pool_is_taken_for_each_anchor():
    anchors = DiagonalGaussian(torch.tensor([[0.0], [10.0]]), torch.zeros(2, 1))
    pool = DiagonalGaussian(torch.tensor([[1.0], [9.0], [2.0], [8.0]]), torch.zeros(4, 1))
    taken = farthest(anchors, pool)
    assert [sorted(each) for each in taken.squeeze(-1).tolist()] == [[8, 9], [1, 2]]


def test_dynamic_codes_are_compared_over_all_frames():
    anchors = DiagonalGaussian(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1))
    pool = DiagonalGaussian(torch.tensor([[3.0, 0.0], [2.0, 2.5]])[..., None], torch.zeros(2, 2, 1))
    assert farthest(anchors, pool).squeeze().tolist() == [2.0, 2.5]


@pytest.fixture
def contrasted():
    model, clips = tiny_baseline("spyl"), random_clips(2, 3)
    noise = model.draw_noise(2, 3, seeded())
    return model, clips, noise


def test_contrast_adds_its_two_terms_and_changes_no_other(contrasted):
    model, clips, noise = contrasted
    with_contrast = model.loss(clips, noise, num_train_clips=10)
    without = model.loss(clips, noise, num_train_clips=10, contrast=False)
    assert set(with_contrast) - set(without) == {"static_nce", "dynamic_nce"}
    assert all(torch.equal(with_contrast[name], without[name]) for name in set(without) - {"loss"})
    added = with_contrast["static_nce"] + with_contrast["dynamic_nce"]
    torch.testing.assert_close(with_contrast["loss"] - without["loss"], added, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("form", "weight"), [("divid", 1), ("published", 10)])
def test_terms_are_weighed_as_published(form, weight):
    model = tiny_baseline("spyl", form)
    terms = model.loss(random_clips(), model.draw_noise(2, 3, seeded()), num_train_clips=10)
    own = terms["dynamic_kl"] + terms["mutual_information"] + terms["static_nce"] + terms["dynamic_nce"]
    torch.testing.assert_close(terms["loss"], weight * terms["reconstruction"] + 5 * terms["static_kl"] + own)


def test_contrast_trains_encoder_and_decoder_and_leaves_the_prior_alone(contrasted):
    model, clips, noise = contrasted
    static, dynamic = model.posteriors(model.embed(clips))
    sum(model.contrastive_terms(static, dynamic, noise).values()).backward()
    for part in (model.frame_encoder, model.frame_decoder, model.static_head, model.dynamic_head):
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())
    assert all(parameter.grad is None for parameter in model.dynamic_prior.parameters())


def test_a_static_code_that_decoding_keeps_is_found_among_the_negatives():
    """A model whose clip is its static code, whatever the dynamic one is: re-encoding gives back what was decoded."""
    model = tiny_baseline("spyl")
    model.decode = lambda static, dynamic: (static, dynamic)
    model.embed = lambda codes: codes
    model.posteriors = lambda codes: tuple(DiagonalGaussian(code, torch.zeros_like(code)) for code in codes)
    static = DiagonalGaussian(3 * torch.eye(2, STATIC), torch.zeros(2, STATIC))
    dynamic = DiagonalGaussian(torch.randn(2, 3, 5), torch.zeros(2, 3, 5))
    kept = model.contrastive_terms(static, dynamic, model.draw_noise(2, 3, seeded()))
    negatives = 4  # half of the pool of 4 * 2
    assert kept["static_nce"] < math.log(1 + negatives) > kept["dynamic_nce"]
    model.decode = lambda static, dynamic: (-static, -dynamic)
    lost = model.contrastive_terms(static, dynamic, model.draw_noise(2, 3, seeded()))
    assert lost["static_nce"] > kept["static_nce"] and lost["dynamic_nce"] > kept["dynamic_nce"]


def test_clips_that_the_model_draws_do_not_enter_the_statistics_of_batch_norm():
    statistics = []
    for contrast in (False, True):
        torch.manual_seed(0)
        model = tiny_baseline("spyl", "published").train()
        model.loss(random_clips(), model.draw_noise(2, 3, seeded()), num_train_clips=10, contrast=contrast)
        statistics.append({name: buffer for name, buffer in model.named_buffers() if "running" in name})
    assert statistics[0] and all(torch.equal(statistics[0][name], statistics[1][name]) for name in statistics[0])
    assert model.frame_encoder[1].running_mean.any() and model.frame_encoder[1].momentum == 0.1
