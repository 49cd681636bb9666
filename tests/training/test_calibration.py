import pytest
import torch
from tiny import random_clips, tiny_encoder

from divid_diffusers.training.calibration import calibrate


@pytest.mark.parametrize("static_source", ["first", "all"])
def test_tokens_start_with_mean_0_and_variance_1(static_source):
    encoder = tiny_encoder(static_source=static_source)
    clips = random_clips(batch=24, frames=4) + torch.linspace(-0.5, 0.5, 24)[:, None, None, None, None]
    clips = clips.clamp(-1, 1)
    before = encoder(clips)
    assert before.static.std(dim=0).mean() < 0.2, "nothing to mend: has the initialisation changed?"
    calibrate(encoder, clips)
    tokens = encoder(clips)
    for token in (tokens.static, tokens.dynamic.flatten(0, 1)):
        assert token.mean(dim=0).abs().max() < 1e-3
        assert (token.std(dim=0) - 1).abs().max() < 1e-3
