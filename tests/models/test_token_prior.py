"""A prior keeps what it is given to the bit, marks it, and draws the rest from what it learned."""

import pytest
import torch
from tiny import same_weights, seeded

from divid_diffusers import DiViDTokenPrior, DiViDTokens


WIDTHS = {"static_dim": 3, "dynamic_dim": 2, "max_frames": 4, "width": 16, "num_layers": 2, "num_attention_heads": 2}


def tiny_prior(**overrides):
    torch.manual_seed(0)
    return DiViDTokenPrior(**(WIDTHS | overrides)).eval()


def some_tokens(batch=5, frames=4):
    return DiViDTokens(
        static=torch.randn(batch, 3, generator=seeded(1)) * 7 + 2,
        dynamic=torch.randn(batch, frames, 2, generator=seeded(2)) * 0.3 - 1,
    )


@pytest.mark.parametrize(("with_static", "known"), [(True, 0), (False, 4), (False, 2), (True, 3), (False, 0)])
def test_what_is_given_is_kept_to_the_bit_and_the_rest_is_drawn(with_static, known):
    prior, tokens = tiny_prior(), some_tokens()
    prior.fit_statistics(tokens)
    options = {
        "num_inference_steps": 3,
        "static": tokens.static if with_static else None,
        "dynamic": tokens.dynamic[:, :known] if known else None,
    }
    drawn, other = (prior.sample(5, 4, generator=seeded(seed), **options) for seed in (0, 1))
    assert torch.equal(drawn.dynamic[:, :known], tokens.dynamic[:, :known])
    assert torch.equal(drawn.static, tokens.static) == with_static
    assert not torch.equal(drawn.dynamic[:, known:], other.dynamic[:, known:]) or known == 4
    assert torch.equal(drawn.static, other.static) == with_static
    assert drawn.static.isfinite().all() and drawn.dynamic.shape == (5, 4, 2)
    again = prior.sample(5, 4, generator=seeded(0), **options)
    assert torch.equal(again.static, drawn.static) and torch.equal(again.dynamic, drawn.dynamic)


def loss_of(prior, tokens, given, noise_seed=3):
    noise = DiViDTokens(
        static=torch.randn(5, 3, generator=seeded(noise_seed)), dynamic=torch.randn(5, 4, 2, generator=seeded(4))
    )
    return prior.loss(tokens, given, torch.tensor([0, 10, 400, 900, 999]), noise)


def test_given_tokens_have_no_noise_and_no_part_in_the_loss():
    prior, tokens = tiny_prior(), some_tokens()
    given = torch.zeros(5, 5, dtype=torch.bool)
    assert loss_of(prior, tokens, given) != loss_of(prior, tokens, given, noise_seed=9)
    given[:, 0] = True
    assert loss_of(prior, tokens, given) == loss_of(prior, tokens, given, noise_seed=9)
    prior.static_out.weight.grad = None
    loss_of(prior, tokens, given).backward()
    assert not prior.static_out.weight.grad.any() and prior.dynamic_out.weight.grad.any()
    assert loss_of(prior, tokens, torch.ones(5, 5, dtype=torch.bool)) == 0


def test_the_target_is_v():
    """With all predictions at zero the loss is the mean square of v, which has unit variance for unit tokens."""
    prior = tiny_prior()
    for layer in (prior.static_out, prior.dynamic_out):
        torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    tokens = DiViDTokens(static=torch.ones(5, 3), dynamic=torch.ones(5, 4, 2))
    noise = DiViDTokens(static=torch.zeros(5, 3), dynamic=torch.zeros(5, 4, 2))
    timesteps = torch.tensor([0, 10, 400, 900, 999])
    expected = (1 - prior.noise_scheduler.alphas_cumprod[timesteps]).mean()
    found = prior.loss(tokens, torch.zeros(5, 5, dtype=torch.bool), timesteps, noise)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_it_learns_which_static_token_goes_with_which_motion():
    """Two kinds of clips: s and d are +1 together, or -1 together. Given d, s has to follow."""
    torch.manual_seed(0)
    prior = tiny_prior(dropout=0.0).train()
    sign = torch.tensor([1.0, -1.0]).repeat(32)
    tokens = DiViDTokens(static=sign[:, None].expand(-1, 3), dynamic=sign[:, None, None].expand(-1, 4, 2))
    optimizer, generator = torch.optim.Adam(prior.parameters(), 3e-3), seeded(0)
    for _ in range(150):
        given = torch.rand(64, 5, generator=generator) < 0.5
        timesteps = torch.randint(1000, (64,), generator=generator)
        noise = DiViDTokens(
            static=torch.randn(64, 3, generator=generator), dynamic=torch.randn(64, 4, 2, generator=generator)
        )
        prior.loss(tokens, given, timesteps, noise).backward()
        optimizer.step(), optimizer.zero_grad()
    prior.eval()
    drawn = prior.sample(64, dynamic=tokens.dynamic, num_inference_steps=20, generator=seeded(5))
    assert (drawn.static.sign() == sign[:, None]).float().mean() > 0.95
    free = prior.sample(64, num_inference_steps=20, generator=seeded(6))
    assert (free.static.mean(1).sign() == free.dynamic.mean((1, 2)).sign()).float().mean() > 0.9
    assert 8 < (free.static.mean(1) > 0).sum() < 56  # of both kinds


def test_statistics_are_those_of_the_tokens_and_a_value_that_never_changes_is_harmless():
    prior, tokens = tiny_prior(), some_tokens(batch=200)
    tokens.static[:, 1] = 4.0
    prior.fit_statistics(tokens)
    units = prior.standardise(tokens)
    assert units.dynamic.flatten(0, 1).std(0).allclose(torch.ones(2), atol=1e-2)
    assert units.static.mean(0).abs().max() < 1e-5 and not units.static[:, 1].any()


def test_a_prior_of_any_number_of_frames_up_to_its_own(tmp_path):
    prior = tiny_prior()
    assert prior.sample(2, 1, num_inference_steps=2).dynamic.shape == (2, 1, 2)
    assert prior.sample_static(3, seeded()).shape == (3, 3) and prior.sample_dynamic(3, 2, seeded()).shape == (3, 2, 2)
    for call, sentence in {
        "too many frames": ({"num_frames": 5}, "`num_frames` is 5: this prior draws 1 to 4 frames"),
        "no frames": ({"num_frames": 0}, "`num_frames` is 0"),
        "everything": ({"static": torch.zeros(2, 3), "dynamic": torch.zeros(2, 4, 2)}, "nothing to draw"),
        "too long": ({"num_frames": 2, "dynamic": torch.zeros(2, 4, 2)}, "of 4 frames, but `num_frames` is 2"),
        "too wide": ({"static": torch.zeros(2, 4)}, "`static` has the shape"),
        "broken": ({"static": torch.zeros(2, 3) / 0}, "NaN or infinity"),
    }.values():
        with pytest.raises(ValueError, match=sentence):
            prior.sample(2, **call)
    with pytest.raises(ValueError, match="3 heads cannot share"):
        tiny_prior(num_attention_heads=3)
    prior.fit_statistics(some_tokens())
    prior.save_pretrained(tmp_path)
    loaded = DiViDTokenPrior.from_pretrained(tmp_path)
    assert same_weights(prior, loaded)  # its statistics among them
    assert torch.equal(*(each.sample(2, generator=seeded()).static for each in (prior, loaded.eval())))
