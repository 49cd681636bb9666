"""The presets build parts that fit together, for any kind of frame."""

from pathlib import Path

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


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_the_parts_of_a_preset_fit_together(preset):
    with torch.device("meta"):
        encoder, unet = build_models(preset, in_channels=1)
    for name in ("static_dim", "dynamic_dim", "sample_size", "in_channels"):
        assert encoder.config[name] == unet.config[name]
    assert encoder.config.static_dim == encoder.config.dynamic_dim  # the orthogonality term needs it
    assert unet.config.out_channels == 1


def test_small_is_between_tiny_and_paper_and_fits_into_a_repository():
    with torch.device("meta"):
        sizes = {
            name: sum(model.num_parameters() for model in build_models(name)) for name in ("tiny", "small", "paper")
        }
    assert sizes["tiny"] < sizes["small"] <= 30e6 < sizes["paper"]
    with torch.device("meta"):
        assert all(2 * model.num_parameters() < 25e6 for model in build_models("small"))  # bytes in half precision


def test_fields_of_the_unet_can_be_set_and_the_scheduler_follows():
    pipe = build_pipeline("tiny", prediction_type="sample", static_dropout=0.1)
    assert pipe.unet.config.static_dropout == 0.1
    assert pipe.scheduler.config.prediction_type == "sample"


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="There is no preset 'huge': choose one of paper, tiny, small"):
        build_models("huge")


def test_the_model_card_describes_the_presets_as_they_are_built():
    card = (Path(__file__).parents[1] / "model_card.md").read_text()
    table = card[card.index("`tiny` preset |") : card.index("The trainer adds")]
    rows = {
        cells[1]: {"paper": cells[2], "tiny": cells[4]}
        for cells in map(split_row, table.splitlines()[2:])
        if cells[1:]
    }
    for preset in ("paper", "tiny"):
        with torch.device("meta"):
            encoder, unet = (model.config for model in build_models(preset))
            pipe = build_pipeline(preset)
        said = {part: row["paper"] if row[preset] == "the same" else row[preset] for part, row in rows.items()}
        on_off = {True: "on", False: "off"}
        assert said["frames"].startswith(f"{encoder.sample_size}×{encoder.sample_size}")
        assert widths(encoder.block_out_channels) in said["image encoder"]
        assert f"{encoder.latent_channels} channels" in said["image encoder"]
        assert all(str(n) in said["static encoder"] for n in (encoder.static_hidden_dim, encoder.static_dim))
        assert f"{encoder.lstm_hidden_dim} per direction" in said["dynamic encoder"]
        assert f"{encoder.num_attention_heads}-head" in said["dynamic encoder"].replace(" heads", "-head")
        assert f'"{encoder.first_frame}"' in said["first frame"]
        assert widths(unet.block_out_channels) in said["UNet"]
        assert f"width {unet.cross_attention_dim}" in said["context of a frame"]
        assert said["token modulation, position embedding"] == on_off[unet.token_modulation]
        assert unet.token_modulation == unet.position_embedding
        assert said["pixel shortcut, shrunk input"] == on_off[encoder.pixel_shortcut or unet.shrink_input]
        assert (said["prediction"], unet.prediction_type) == ("ε", "epsilon")
        assert isinstance(pipe.scheduler, SharedNoiseDDPMScheduler)
        assert said["sampler"].startswith(f"DDPM, {pipe.config.num_inference_steps} steps")


def split_row(line):
    return [cell.strip() for cell in line.split("|")]


def widths(numbers):
    return "widths " + ", ".join(map(str, numbers))
