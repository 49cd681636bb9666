"""SPYL's idea: codes of the whole clip, told apart by contrast with clips that the model draws itself."""

import math

import pytest
import torch
from tiny import influence, random_clips, seeded
from tiny_baselines import STATIC, tiny_baseline

from divid_diffusers.models.sequential_vae import DiagonalGaussian
from divid_diffusers.models.spyl import (
    POOL_SIZE,
    NegativePool,
    farthest,
    info_nce,
    mutual_information,
    pairwise_kl,
    time_average,
)


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


def test_dynamic_codes_are_compared_by_their_averages_over_time():
    """A rare jump counts as little as published: by KL over all frames the first of the pool would be the farther."""
    anchors = DiagonalGaussian(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1))
    means = torch.tensor([[4.0, -3.0], [1.5, 1.5]])[..., None]
    pool = time_average(DiagonalGaussian(means, torch.zeros(2, 2, 1)))
    assert pool.mean.squeeze().tolist() == [0.5, 1.5] and farthest(time_average(anchors), pool).item() == 1.5


# --- the pool ------------------------------------------------------------------------------------------------------


def numbered(first, count):
    """Posteriors whose means are their numbers, of both codes."""
    means = torch.arange(first, first + count).float()[:, None]
    return DiagonalGaussian(means.repeat(1, 2), -means.repeat(1, 2)), DiagonalGaussian(means, 2 * means)


def test_a_small_batch_meets_256_negatives_the_newest_of_512():
    pool, new = NegativePool(2, 1), 32  # four times a batch of 8
    for step in range(20):
        static, dynamic = pool.renew(*numbered(new * step, new), keep=True)
        assert len(static.mean) == len(dynamic.mean) == min(POOL_SIZE, new * (step + 1))
    assert sorted(dynamic.mean.flatten().tolist()) == list(range(new * 20 - POOL_SIZE, new * 20))
    assert torch.equal(static.log_variance, -static.mean) and torch.equal(dynamic.log_variance, 2 * dynamic.mean)
    anchors = DiagonalGaussian(torch.zeros(8, 1), torch.zeros(8, 1))
    assert farthest(anchors, dynamic).shape == (8, 256, 1)


def test_the_published_batch_renews_all_of_the_pool():
    pool = NegativePool(2, 1)
    pool.renew(*numbered(0, 4 * 128), keep=True)
    static, _ = pool.renew(*numbered(1000, 4 * 128), keep=True)
    assert static.mean.min() == 1000 and len(static.mean) == POOL_SIZE


def test_what_is_not_to_be_kept_leaves_the_pool_as_it_was():
    pool = NegativePool(2, 1)
    pool.renew(*numbered(0, 4), keep=True)
    before = {name: buffer.clone() for name, buffer in pool.named_buffers()}
    assert len(pool.renew(*numbered(50, 4), keep=False)[0].mean) == 8
    assert all(torch.equal(before[name], buffer) for name, buffer in pool.named_buffers())


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


def test_contrast_trains_encoder_decoder_and_through_the_positive_the_prior(contrasted):
    model, clips, noise = contrasted
    static, dynamic = model.posteriors(model.embed(clips))
    sum(model.contrastive_terms(static, dynamic, noise, model.draw_pool(noise)).values()).backward()
    parts = (model.frame_encoder, model.frame_decoder, model.static_head, model.dynamic_head, model.dynamic_prior.lstm)
    for part in parts:
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())


def test_dynamics_are_drawn_as_the_means_along_a_rollout_of_the_prior(contrasted, monkeypatch):
    model, clips, noise = contrasted
    decoded, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda s, d: decoded.append(d) or decode(s, d))
    static, dynamic = model.posteriors(model.embed(clips))
    model.contrastive_terms(static, dynamic, noise, model.draw_pool(noise))
    samples, means = model.dynamic_prior.rollout(noise["positive_dynamic"])
    torch.testing.assert_close(decoded[1], means)
    assert not torch.allclose(means, samples)
    torch.testing.assert_close(decoded[0], model.dynamic_prior.rollout(noise["pool_dynamic"].flatten(0, 1))[1])


def test_negatives_come_from_the_pool_that_is_given(contrasted):
    model, clips, noise = contrasted
    own = model.draw_pool(noise)
    terms = [model.loss(clips, noise, num_train_clips=10, pool=pool) for pool in (None, own)]
    assert torch.equal(terms[0]["dynamic_nce"], terms[1]["dynamic_nce"])
    twice = tuple(DiagonalGaussian(*(torch.cat([part, part + 1]) for part in each)) for each in own)
    assert model.loss(clips, noise, num_train_clips=10, pool=twice)["static_nce"] > terms[0]["static_nce"]


def test_an_augmented_view_is_what_the_dynamic_codes_are_read_from_and_no_other():
    model, clips = tiny_baseline("spyl", "published"), random_clips(4, 3)
    embeddings, view = model.embed(clips[:2]), model.embed(clips[2:])
    static, dynamic = model.posteriors(embeddings, view)
    assert torch.equal(static.mean, model.posteriors(embeddings)[0].mean)
    assert torch.equal(dynamic.mean, model.posteriors(view)[1].mean)


def test_a_static_code_that_decoding_keeps_is_found_among_the_negatives():
    """A model whose clip is its static code, whatever the dynamic one is: re-encoding gives back what was decoded."""
    model = tiny_baseline("spyl")
    model.decode = lambda static, dynamic: (static, dynamic)
    model.embed = lambda codes: codes
    model.posteriors = lambda codes: tuple(DiagonalGaussian(code, torch.zeros_like(code)) for code in codes)
    static = DiagonalGaussian(3 * torch.eye(2, STATIC), torch.zeros(2, STATIC))
    dynamic = DiagonalGaussian(torch.randn(2, 3, 5), torch.zeros(2, 3, 5))
    noise = model.draw_noise(2, 3, seeded())
    pool = model.draw_pool(noise)
    kept = model.contrastive_terms(static, dynamic, noise, pool)
    negatives = 4  # half of the pool of 4 * 2
    assert kept["static_nce"] < math.log(1 + negatives) > kept["dynamic_nce"]
    model.decode = lambda static, dynamic: (-static, -dynamic)
    lost = model.contrastive_terms(static, dynamic, noise, pool)
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


def test_augmented_views_do_not_enter_the_statistics_of_the_encoder():
    statistics = []
    for view in (None, random_clips().flip(0) / 2):
        torch.manual_seed(0)
        model = tiny_baseline("spyl", "published").train()
        noise = model.draw_noise(2, 3, seeded())
        model.loss(random_clips(), noise, num_train_clips=10, contrast=False, dynamic_clips=view)
        statistics.append(model.frame_encoder[1].running_mean)
    assert statistics[0].any() and torch.equal(*statistics)
