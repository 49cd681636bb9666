"""Every pipeline of the package is measured by the same code, repeatably; those that can sample are sampled."""

import pytest
import torch
from tiny import SIZE, seeded, tiny_pipeline
from tiny_baselines import tiny_baseline

from divid_diffusers import SequentialVAEPipeline
from divid_diffusers.evaluation.protocol import PipelineDisentangler
from divid_diffusers.evaluation.sample_quality import sprites_protocol
from divid_diffusers.evaluation.swap_test import swap_test


CLIPS = torch.rand(4, 3, 3, SIZE, SIZE, generator=seeded())
LABELS = {"identity": [0, 1, 0, 1], "action": [0, 0, 1, 1]}
PIPELINES = {"DiViD": tiny_pipeline} | {
    method: lambda method=method: SequentialVAEPipeline(tiny_baseline(method)) for method in ("dbse", "spyl")
}


def judge(clips):
    brightness = clips.mean(dim=(1, 2, 3, 4))
    return {factor: torch.stack([brightness, 1 - brightness], dim=-1) for factor in LABELS}


@pytest.mark.parametrize("name", PIPELINES)
def test_codes_and_clips_are_those_of_the_pipeline_and_the_same_every_time(name):
    pipe = PIPELINES[name]()
    model = PipelineDisentangler(pipe, seed=3)
    static, dynamic = model.encode(CLIPS)
    torch.testing.assert_close(static, pipe.encode(CLIPS).static.detach())
    decoded = model.decode(static, dynamic)
    assert decoded.shape == CLIPS.shape and 0 <= decoded.min() and decoded.max() <= 1
    assert torch.equal(decoded, model.decode(static, dynamic))
    expected = pipe(static, dynamic, generator=seeded(3), output_type="pt").frames
    torch.testing.assert_close(decoded, expected)
    assert swap_test(model, judge, CLIPS, LABELS)["swaps"]["all"]["n"] == 12


def test_a_baseline_draws_codes_from_its_prior_and_divid_says_that_it_cannot():
    scores = sprites_protocol(PipelineDisentangler(PIPELINES["dbse"]()), judge, CLIPS, LABELS, draws=2)
    assert scores.num_clips == 4 and scores.draws == 2
    with pytest.raises(TypeError, match="no sample_static and no sample_dynamic"):
        sprites_protocol(PipelineDisentangler(tiny_pipeline()), judge, CLIPS, LABELS)
