"""The presets build parts that fit together, for any kind of frame."""

import pytest
import torch

from divid_diffusers import DiViDPipeline, SharedNoiseDDPMScheduler, build_models, build_pipeline


@pytest.mark.parametrize("channels", [1, 3])
def test_the_tiny_pipeline_encodes_and_decodes(channels):
    pipe = build_pipeline("tiny", in_channels=channels, num_inference_steps=2)
    pipe.set_progress_bar_config(disable=True)
    assert isinstance(pipe, DiViDPipeline) and isinstance(pipe.scheduler, SharedNoiseDDPMScheduler)
    assert pipe.config.num_inference_steps == 2
    assert pipe.reconstruct(torch.rand(1, 2, channels, 64, 64), output_type="pt").frames.shape[2] == channels


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_the_parts_of_a_preset_fit_together(preset):
    with torch.device("meta"):
        encoder, unet = build_models(preset, in_channels=1)
    for name in ("static_dim", "dynamic_dim", "sample_size", "in_channels"):
        assert encoder.config[name] == unet.config[name]
    assert encoder.config.static_dim == encoder.config.dynamic_dim  # the orthogonality term needs it
    assert unet.config.out_channels == 1


def test_fields_of_the_unet_can_be_set_and_the_scheduler_follows():
    pipe = build_pipeline("tiny", prediction_type="sample", static_dropout=0.1)
    assert pipe.unet.config.static_dropout == 0.1
    assert pipe.scheduler.config.prediction_type == "sample"


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="There is no preset 'huge': choose one of paper, tiny"):
        build_models("huge")
