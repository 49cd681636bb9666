import builtins
import json
import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from scipy.stats import t
from tiny import random_clips, tiny_pipeline

from divid_diffusers.evaluation.bottleneck import _another_clip, marginal_kl, plot_bottleneck, token_bottleneck


GRID = [0, 400, 999]


def test_the_marginal_kl_of_a_constant_image_by_hand():
    """N(0.5 c, 0.75) against N(0, 1), abar = 1/4: (0.75 + 0.25 c^2 - 1 - ln 0.75) / 2."""
    for c in (0.0, 0.6, -1.0):
        by_hand = (0.25 * c * c - 0.25 - math.log(0.75)) / 2
        assert marginal_kl(torch.full((2, 3, 1, 4, 4), c), torch.tensor([0.25])).item() == pytest.approx(by_hand)


def test_the_marginal_kl_agrees_with_torch_pixel_by_pixel():
    frames, alphas_cumprod = random_clips(), torch.tensor([0.999, 0.5, 0.01])
    for abar, kl in zip(alphas_cumprod, marginal_kl(frames, alphas_cumprod)):
        forward = torch.distributions.Normal(abar.sqrt() * frames, (1 - abar).sqrt())
        pixels = torch.distributions.kl_divergence(forward, torch.distributions.Normal(0.0, 1.0))
        assert kl.item() == pytest.approx(pixels.mean().item(), rel=1e-4)


def test_all_is_left_without_noise_and_nothing_in_pure_noise():
    kl = marginal_kl(random_clips(), torch.tensor([1.0, 0.9999, 0.9, 0.1, 1e-9, 0.0]))
    assert kl[0] == math.inf and kl[-1] == 0 and kl[-2] == pytest.approx(0, abs=1e-9)
    assert (kl.diff() < 0).all()


def test_the_marginal_kl_refuses_what_are_no_pixels_and_no_abar():
    for frames in (torch.full((2,), math.nan), torch.full((2,), 255.0), torch.zeros(0)):
        with pytest.raises(ValueError, match="must be pixels in"):
            marginal_kl(frames, torch.tensor([0.5]))
    with pytest.raises(ValueError, match="must lie in"):
        marginal_kl(torch.zeros(2), torch.tensor([1.5]))


@pytest.fixture(scope="module")
def clips():
    return random_clips(batch=3)


@pytest.mark.parametrize("ignored, used", [("static", "dynamic"), ("dynamic", "static")])
def test_a_unet_that_ignores_a_token_needs_it_at_no_t(clips, ignored, used):
    pipe = tiny_pipeline()
    torch.nn.init.zeros_(getattr(pipe.unet, f"{ignored}_proj").weight)
    rise = token_bottleneck(pipe, clips, GRID)["rise"]
    assert rise[ignored] == {"mean": [0.0] * 3, "low": [0.0] * 3, "high": [0.0] * 3}
    assert rise["both"] == rise[used] and all(rise[used]["mean"])


def test_the_rise_is_what_the_wrong_token_costs(clips):
    """The decoder answers x_0 = d_i[0] on constant clips, so each loss is a distance between two clips' constants."""
    pipe = tiny_pipeline(prediction_type="sample")
    pipe.unet.forward = lambda sample, timestep, static, dynamic: UNet2DConditionOutput(
        sample=dynamic[:, :, :1, None, None].expand_as(sample)
    )
    constants = torch.tensor([-1.0, 0.0, 1.0])
    clips = constants.view(3, 1, 1, 1, 1).expand(3, 2, 3, 16, 16)
    pipe.encoder.encode_dynamic = lambda embeddings, static_frame: constants.view(3, 1, 1).expand(3, 2, 16)
    found = token_bottleneck(pipe, clips, GRID)
    assert found["loss"]["mean"] == [0.0] * 3 and found["rise"]["static"]["high"] == [0.0] * 3
    # a ring through -1, 0, 1 has two edges of length 1 and one of length 2
    rise = found["rise"]["dynamic"]
    assert rise["mean"] == pytest.approx([2.0] * 3) and found["rise"]["both"] == rise
    half = t.ppf(0.975, 2) * math.sqrt(3.0 / 3)  # values 1, 1, 4: variance 3, n = 3
    assert rise["high"] == pytest.approx([2 + half] * 3) and rise["low"] == pytest.approx([2 - half] * 3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_the_loss_is_that_of_training(clips, prediction_type):
    pipe = tiny_pipeline(prediction_type=prediction_type)
    found = token_bottleneck(pipe, clips, [400], seed=3)

    generator = torch.Generator().manual_seed(3)
    torch.randperm(3, generator=generator)
    noise = torch.randn(3, 1, *clips.shape[2:], generator=generator)
    with torch.no_grad():
        noisy = pipe.scheduler.add_noise(clips, noise, torch.full((3,), 400))
        tokens = pipe.encoder(clips)
        prediction = pipe.unet(noisy, 400, static=tokens.static, dynamic=tokens.dynamic).sample
    abar = pipe.scheduler.alphas_cumprod[400]
    truth = {"epsilon": noise, "sample": clips, "v_prediction": abar.sqrt() * noise - (1 - abar).sqrt() * clips}
    loss = (prediction - truth[prediction_type]).square().mean().item()
    assert found["loss"]["mean"][0] == pytest.approx(loss, rel=1e-4)


def test_the_same_seed_gives_the_same_figures_ready_for_json(clips):
    pipe = tiny_pipeline()
    found = token_bottleneck(pipe, clips, [0, 400], seed=1)
    again = token_bottleneck(pipe, clips, torch.tensor([0, 400]), seed=1)
    assert json.loads(json.dumps(found)) == found == again != token_bottleneck(pipe, clips, [0, 400], seed=2)
    assert found["n"] == 3 and found["timesteps"] == [0, 400] and found["alphas_cumprod"][0] == pytest.approx(0.9999)
    assert found["marginal_kl"] == marginal_kl(clips, pipe.scheduler.alphas_cumprod[[0, 400]]).tolist()


@pytest.mark.parametrize("count", [2, 3, 8])
def test_everybody_gets_the_tokens_of_another_and_all_are_given(count):
    other = _another_clip(count, torch.Generator().manual_seed(0))
    assert sorted(other.tolist()) == list(range(count)) and (other != torch.arange(count)).all()


def test_what_cannot_be_measured_is_refused(clips):
    pipe = tiny_pipeline()
    with pytest.raises(ValueError, match="only one clip was passed"):
        token_bottleneck(pipe, clips[:1], GRID)
    with pytest.raises(ValueError, match="differ in length"):
        token_bottleneck(pipe, [clips[0], clips[1, :2]], GRID)
    for grid in ([1000], [-1], []):
        with pytest.raises(ValueError, match="choose at least one from 0 to 999"):
            token_bottleneck(pipe, clips, grid)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler has no `alphas_cumprod`"):
        token_bottleneck(pipe, clips, GRID)


@pytest.fixture
def figures():
    rise = {
        name: {"mean": [mean, mean + 1], "low": [mean - 0.5] * 2, "high": [mean + 2] * 2}
        for name, mean in (("static", 1.0), ("dynamic", 3.0), ("both", 5.0))
    }
    return {"n": 3, "prediction_type": "epsilon", "timesteps": [0, 9], "marginal_kl": [3.0, 0.1], "rise": rise}


def test_the_plot_is_made_of_the_figures_alone(figures, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is an extra")
    figure = plot_bottleneck(figures)
    curves = [axes.lines[0].get_ydata().tolist() for axes in figure.axes]
    assert curves == [[3.0, 0.1], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert figure.axes[2].get_title() == "d of another clip, n = 3"
    figure.savefig(tmp_path / "bottleneck.png")
    assert (tmp_path / "bottleneck.png").stat().st_size > 0


def test_without_matplotlib_the_plot_says_what_to_install(figures, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="The plot needs matplotlib"):
        plot_bottleneck(figures)
