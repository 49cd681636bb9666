"""Training on latents: computed in every step or once, resumed, and refused where they are another autoencoder's."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL
from test_train_divid import losses, train_here
from tiny import latent_pipeline, random_clips, same_weights, tiny_pipeline, tiny_unet, tiny_vae
from train_divid import parse_args
from trainer import on_latents
from trainer.on_latents import Latents, cached_latents, load_vae, measured_latents

from divid_diffusers import DiViDPipeline
from divid_diffusers.data.puppets import Puppets
from divid_diffusers.data.sampling import SampledClips


CPU = torch.device("cpu")
PUPPETS = Puppets(5, num_frames=3, size=16)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    tiny_vae("AutoencoderKL").save_pretrained(folder)
    return folder


def pixels(clips):
    return torch.stack([clips[index]["frames"] for index in range(len(clips))]).float() / 127.5 - 1


# --- the autoencoder -----------------------------------------------------------------------------------------------


def test_an_autoencoder_is_loaded_from_its_folder_or_a_pipelines_and_trains_no_more(saved, tmp_path):
    vae = load_vae(str(saved))
    assert type(vae) is AutoencoderKL and same_weights(vae, tiny_vae("AutoencoderKL"))
    assert not vae.training and not any(weight.requires_grad for weight in vae.parameters())
    latent_pipeline(tiny_vae("VQModel")).save_pretrained(tmp_path)
    assert same_weights(load_vae(str(tmp_path)), tiny_vae("VQModel"))


def test_what_is_no_autoencoder_is_a_sentence(tmp_path):
    for name, sentence in (("gone", "There is no folder 'gone'"), (tmp_path, "no file named config.json")):
        with pytest.raises(
            SystemExit, match=f"--pretrained_vae: .* is no autoencoder that can be loaded: .*{sentence}"
        ):
            load_vae(str(name))
    tiny_unet().save_pretrained(tmp_path / "unet")
    with pytest.raises(SystemExit, match="it holds a DiViDUNet2DConditionModel, and not one of AutoencoderKL, "):
        load_vae(str(tmp_path / "unet"))
    broken = tiny_vae()
    broken.decoder.layers[0].weight[0] = float("nan")
    broken.save_pretrained(tmp_path / "broken")
    with pytest.raises(SystemExit, match="the weights in .* are not finite"):
        load_vae(str(tmp_path / "broken"))


def test_latents_of_the_set_are_seen_with_mean_0_and_deviation_a_half():
    latents = measured_latents(tiny_vae("AutoencoderKL"), PUPPETS, parse_args(["--num_frames=3"]))
    seen = latents.encode(pixels(PUPPETS))
    assert seen.shape == (5, 3, 4, 8, 8)
    torch.testing.assert_close(seen.mean((0, 1, 3, 4)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std((0, 1, 3, 4)), torch.full((4,), 0.5), atol=1e-3, rtol=0)


def test_grey_clips_are_given_to_an_autoencoder_of_colour_and_what_does_not_fit_is_refused():
    latents, grey = Latents(tiny_vae()), random_clips(channels=1)
    assert torch.equal(latents.encode(grey), latents.encode(grey.expand(-1, -1, 3, -1, -1)))
    assert latents.shape_of((1, 16), "faces") == (4, 8)
    with pytest.raises(SystemExit, match="The frames of faces have 17 pixels a side, and latents are 2 times smaller"):
        latents.shape_of((3, 17), "faces")
    with pytest.raises(SystemExit, match="takes frames of 1 channel.s., and faces has 3"):
        Latents(tiny_vae(in_channels=1, out_channels=1)).shape_of((3, 16), "faces")


# --- latents that are computed once --------------------------------------------------------------------------------


@pytest.fixture
def latents():
    return Latents(tiny_vae(), {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 3.0, 4.0]})


def test_kept_latents_are_those_of_every_step_but_for_rounding(latents, tmp_path, monkeypatch):
    monkeypatch.setattr(on_latents, "CLIPS_PER_FILE", 2)
    kept = cached_latents(tmp_path / "kept", PUPPETS, latents, CPU)
    assert len(kept) == 5 and len(list((tmp_path / "kept").glob("*.safetensors"))) == 3
    assert len({path.stat().st_mode for path in (tmp_path / "kept").iterdir()}) == 1, "others may read them"
    expected = latents.encode(pixels(PUPPETS))
    found = torch.stack([kept[index]["frames"] for index in range(5)])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    frames = SampledClips(kept, 2)[7]
    drawn = SampledClips(PUPPETS, 2)[7].float() / 127.5 - 1
    torch.testing.assert_close(frames, latents.encode(drawn), atol=1e-3, rtol=1e-3)


def test_what_a_stopped_run_left_is_not_computed_again(latents, tmp_path, monkeypatch):
    monkeypatch.setattr(on_latents, "CLIPS_PER_FILE", 2)
    whole = cached_latents(tmp_path / "whole", PUPPETS, latents, CPU)
    encode, calls = on_latents.encoded, []

    def stop_at_the_fourth(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(on_latents, "encoded", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        cached_latents(tmp_path / "stopped", PUPPETS, latents, CPU)
    assert len(list((tmp_path / "stopped").glob("*.safetensors"))) == 1
    again = cached_latents(tmp_path / "stopped", PUPPETS, latents, CPU)
    assert len(calls) == 4 + 3, "two of five clips were there"
    assert all(torch.equal(again[index]["frames"], whole[index]["frames"]) for index in range(5))
    cached_latents(tmp_path / "stopped", PUPPETS, latents, CPU)
    assert len(calls) == 4 + 3


OTHERS = {
    "another autoencoder": (lambda: (PUPPETS, tiny_vae(latent_magnitude=2)), "the latents of another autoencoder"),
    "other weights": (lambda: (PUPPETS, scaled(tiny_vae())), "the latents of another autoencoder"),
    "more clips": (lambda: (Puppets(6, num_frames=3, size=16), tiny_vae()), "the latents of other clips"),
    "longer clips": (lambda: (Puppets(5, num_frames=4, size=16), tiny_vae()), "the latents of other clips"),
}


def scaled(vae):
    vae.encoder.layers[0].weight.mul_(1.01)
    return vae


@pytest.mark.parametrize("name", OTHERS)
def test_latents_of_something_else_are_refused(latents, tmp_path, name):
    cached_latents(tmp_path, PUPPETS, latents, CPU)
    clips, vae = OTHERS[name][0]()
    with pytest.raises(SystemExit, match=f"holds {OTHERS[name][1]}: give another folder, or delete this one"):
        cached_latents(tmp_path, clips, Latents(vae), CPU)


def test_a_damaged_file_and_a_folder_of_other_things_are_sentences(latents, tmp_path):
    cached_latents(tmp_path / "kept", PUPPETS, latents, CPU)
    (file,) = (tmp_path / "kept").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(SystemExit, match="latents-00000.safetensors is damaged: delete it, and start again"):
        cached_latents(tmp_path / "kept", PUPPETS, latents, CPU)
    file.unlink()
    cached_latents(tmp_path / "kept", PUPPETS, latents, CPU)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(SystemExit, match="holds other files: give a folder of its own"):
        cached_latents(tmp_path / "other", PUPPETS, latents, CPU)
    with pytest.raises(SystemExit, match="--cache_latents .* cannot be written to"):
        cached_latents(tmp_path / "other" / "thesis.tex", PUPPETS, latents, CPU)


# --- whole runs ----------------------------------------------------------------------------------------------------


def run(folder, saved, **flags):
    train_here(folder, pretrained_vae=saved, puppet_size=32, **{"num_puppets": 5, "prediction_type": "sample"} | flags)
    pipe = DiViDPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_run_on_latents_leaves_a_pipeline_with_its_autoencoder_and_goes_on_from_it(saved, tmp_path):
    pipe = run(tmp_path / "run", saved, validation_steps=1)
    assert pipe.frame_shape == (3, 32) and pipe.encoder.config.sample_size == 16 and len(pipe.config.latents_std) == 4
    assert same_weights(pipe.vae, tiny_vae("AutoencoderKL")) and not pipe.scheduler.config.clip_sample
    clip = torch.rand(1, 2, 3, 32, 32)
    assert pipe.reconstruct(clip, output_type="pt").frames.shape == (1, 2, 3, 32, 32)
    figures = json.loads((tmp_path / "run/validation/figures.jsonl").read_text().splitlines()[-1])
    assert figures["psnr"] > 0
    assert str(saved) not in (tmp_path / "run" / "README.md").read_text()
    train_here(tmp_path / "on", pretrained_model_name_or_path=tmp_path / "run", puppet_size=32, num_puppets=5)
    on = DiViDPipeline.from_pretrained(tmp_path / "on")
    assert on.config.latents_std == pipe.config.latents_std and same_weights(on.vae, pipe.vae)


def test_a_run_on_kept_latents_is_that_of_every_step_and_is_resumed(saved, tmp_path, capsys):
    exact = {"mixed_precision": "no", "max_train_steps": 2, "checkpointing_steps": 1}
    run(tmp_path / "every", saved, **exact)
    in_every_step = losses(capsys.readouterr().err)
    kept = run(tmp_path / "kept", saved, cache_latents=tmp_path / "latents", **exact)
    # only at first: Adam turns a rounding error into a whole step
    assert losses(capsys.readouterr().err)[0] == pytest.approx(in_every_step[0], abs=2e-4)
    (tmp_path / "again").mkdir()
    shutil.copytree(tmp_path / "kept" / "checkpoint-1", tmp_path / "again" / "checkpoint-1")
    again = run(
        tmp_path / "again", saved, cache_latents=tmp_path / "latents", resume_from_checkpoint="latest", **exact
    )
    assert same_weights(again.unet, kept.unet) and same_weights(again.encoder, kept.encoder)


def test_what_changes_pixels_is_left_out_of_the_recipe_and_refused_where_it_is_asked_for(saved, tmp_path):
    with pytest.raises(SystemExit, match="--dynamic_recolour: this is for pixels, and the model works on latents"):
        run(tmp_path / "run", saved, dynamic_recolour=0.3)
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_latents_are_not_kept_of_a_model_of_pixels_nor_an_autoencoder_given_to_it(saved, tmp_path):
    with pytest.raises(SystemExit, match="--cache_latents needs a model that works on latents"):
        train_here(tmp_path / "run", cache_latents=tmp_path / "latents")
    tiny_pipeline().save_pretrained(tmp_path / "pixels")
    with pytest.raises(SystemExit, match="--pretrained_model_name_or_path: The autoencoder does not fit"):
        train_here(tmp_path / "on", pretrained_model_name_or_path=tmp_path / "pixels", pretrained_vae=saved)


def test_clips_that_the_autoencoder_cannot_halve_are_refused(saved, tmp_path):
    with pytest.raises(SystemExit, match="The frames of puppets have 33 pixels a side, and latents are 2 times small"):
        train_here(tmp_path / "run", pretrained_vae=saved, puppet_size=33)
    with pytest.raises(SystemExit, match="have 36 pixels a side, .* a multiple of 8"):
        train_here(tmp_path / "run2", pretrained_vae=saved, puppet_size=36)
