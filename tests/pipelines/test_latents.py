"""A pipeline with an autoencoder does all that one on pixels does, on latents that are scaled and never another's."""

import json

import pytest
import torch
from accelerate import cpu_offload
from calls import close, distance, pt
from diffusers import DDIMScheduler
from tiny import (
    AUTOENCODERS,
    SIZE,
    WIDTH,
    influence,
    latent_pipeline,
    random_clips,
    random_tokens,
    same_weights,
    seeded,
    tiny_directions,
    tiny_encoder,
    tiny_pipeline,
    tiny_prior,
    tiny_unet,
    tiny_vae,
)

from divid_diffusers import DiViDPipeline, SharedNoiseDDPMScheduler
from divid_diffusers.pipelines import latents
from divid_diffusers.pipelines.latents import from_latents, statistics, to_latents


SIDE = 2 * SIZE
A, B = random_clips(1, 4, seed=10, size=SIDE), random_clips(1, 3, seed=11, size=SIDE)
OPERATIONS = {
    "reconstruct": (lambda pipe, **kw: pipe.reconstruct(A, **kw), 4),
    "swap": (lambda pipe, **kw: pipe.swap(A, B, **kw), 3),
    "animate": (lambda pipe, **kw: pipe.animate(A[:, :1], B, **kw), 3),
    "interpolate": (lambda pipe, **kw: pipe.interpolate(A, B, num_clips=2, **kw), 4),
    "edit": (lambda pipe, **kw: pipe.edit(A, {"static 1": 1.0}, **kw), 4),
    "generate": (lambda pipe, **kw: pipe.generate(static=A, num_frames=2, prior_steps=2, **kw), 2),
    "lengths": (lambda pipe, **kw: pipe.reconstruct([B[0], B[0]], **kw), 3),
}


@pytest.fixture
def pipe():
    pipe = latent_pipeline()
    pipe.register_modules(prior=tiny_prior(pipe.encoder), directions=tiny_directions(pipe.encoder))
    return pipe


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_gives_frames_of_the_autoencoders_size(pipe, name):
    operation, length = OPERATIONS[name]
    frames = pt(operation, pipe)
    assert frames.shape[1:] == (length, 3, SIDE, SIDE) and frames.isfinite().all()
    on_latents = pt(operation, pipe, output_type="latent")
    assert on_latents.shape == (len(frames), length, 4, SIZE, SIZE)
    decoded = from_latents(pipe.vae, on_latents.flatten(0, 1)).view_as(frames)
    close(frames, (decoded / 2 + 0.5).clamp(0, 1), 1e-6)


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_each_autoencoder_is_loaded_with_the_pipeline_and_used_as_diffusers_uses_it(kind, tmp_path):
    vae = tiny_vae(kind)
    pipe = latent_pipeline(vae)
    frames = A[0].float()
    output = vae.encode(frames)
    raw = output.latent_dist.mode() if hasattr(output, "latent_dist") else output.latents
    close(torch.stack(pipe.prepare_frames(A))[0], raw * vae.config.scaling_factor, 1e-5)
    close(from_latents(vae, raw * vae.config.scaling_factor), vae.decode(raw).sample, 1e-4)
    pipe.save_pretrained(tmp_path)
    loaded = DiViDPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded.vae).__name__ == kind and same_weights(loaded.vae, vae)
    close(pt(loaded.swap, A, B), pt(pipe.swap, A, B))
    assert json.loads((tmp_path / "model_index.json").read_text())["vae"] == ["diffusers", kind]


def test_shift_and_channel_factors_of_an_autoencoder_are_its_pipelines_own():
    vae, frames = tiny_vae("AutoencoderKL"), A[0]
    raw = vae.encode(frames).latent_dist.mode()
    vae.register_to_config(scaling_factor=0.5, shift_factor=0.25)
    close(to_latents(vae, frames), (raw - 0.25) * 0.5, 1e-6)
    mean, std = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]
    vae.register_to_config(latents_mean=mean, latents_std=std)
    column = torch.tensor([mean, std])[:, None, :, None, None]
    close(to_latents(vae, frames), (raw - column[0]) * 0.5 / column[1], 1e-6)
    close(from_latents(vae, to_latents(vae, frames)), vae.decode(raw).sample, 1e-4)


def test_measured_statistics_bring_latents_to_mean_0_and_deviation_a_half_and_are_kept(tmp_path):
    vae = tiny_vae("AutoencoderKL")
    measured = statistics(to_latents(vae, A[0]))
    pipe = latent_pipeline(vae, **measured)
    (seen,) = pipe.prepare_frames(A)
    close(seen.mean((0, 2, 3)), torch.zeros(4), 1e-5)
    close(seen.std((0, 2, 3)), torch.full((4,), 0.5), 1e-4)
    close(pipe.decode_frames(seen), vae.decode(vae.encode(A[0]).latent_dist.mode()).sample, 1e-4)
    pipe.save_pretrained(tmp_path)
    loaded = DiViDPipeline.from_pretrained(tmp_path)
    assert {name: loaded.config[name] for name in measured} == measured


def test_inverted_latents_give_the_clip_back_better_than_any_noise(pipe):
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    start = pipe.invert(A, num_inference_steps=20)
    assert start.shape == (1, 4, 4, SIZE, SIZE)
    (clean,) = pipe.prepare_frames(A)
    inverted = pt(pipe.reconstruct, A, num_inference_steps=20, latents=start, output_type="latent")
    from_noise = pt(pipe.reconstruct, A, num_inference_steps=20, output_type="latent")
    assert (inverted[0] - clean).square().mean() < 0.5 * (from_noise[0] - clean).square().mean()
    assert pt(pipe.swap, A, B, noise_from="dynamic").shape == (1, 3, 3, SIDE, SIDE)


def test_encoding_is_differentiable_through_the_autoencoder(pipe):
    clip = A.clone().requires_grad_()
    assert influence(pipe.encode(clip).static, clip)[0, 0].any()


def test_frames_are_encoded_and_decoded_in_chunks_that_change_nothing(pipe, monkeypatch):
    whole = pt(pipe.swap, A, B)
    seen = []
    for name in ("encode", "decode"):
        call = getattr(pipe.vae, name)
        monkeypatch.setattr(pipe.vae, name, lambda x, call=call, **kw: seen.append(len(x)) or call(x, **kw))
    monkeypatch.setattr(latents, "FRAMES_AT_ONCE", 2)
    close(pt(pipe.swap, A, B), whole, 1e-5)
    assert max(seen) == 2 and sum(seen) == 4 + 3 + 3


def test_slicing_and_tiling_are_the_autoencoders_own():
    pipe = latent_pipeline(tiny_vae("AutoencoderKL", sample_size=SIDE))
    whole = pt(pipe.swap, A, B)
    pipe.vae.enable_slicing()
    close(pt(pipe.swap, A, B), whole, 1e-5)
    pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = SIDE // 2, SIZE // 2
    pipe.vae.enable_tiling()
    tiled = pt(pipe.swap, A, B)
    assert tiled.shape == whole.shape and 0 < distance(tiled, whole)


def test_an_autoencoder_that_overflows_in_half_precision_computes_in_full():
    """As its `force_upcast` says: the latents are those of the rounded weights in float32, which come back."""
    vae = tiny_vae("AutoencoderKL").half()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    full = tiny_vae("AutoencoderKL").half().float()
    assert vae.config.force_upcast
    assert torch.equal(to_latents(vae, A[0]), to_latents(full, A[0]))
    assert vae.dtype == torch.float16
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


def test_what_overflows_nevertheless_is_a_sentence(pipe):
    pipe.vae.decoder.layers[0].weight.fill_(1e38)
    with pytest.raises(ValueError, match="gave frames that are not finite: check its weights"):
        pipe.reconstruct(A)
    vae = tiny_vae().half()
    vae.encoder.layers[0].weight.fill_(6e4)
    with pytest.raises(ValueError, match=r"gave latents that are not finite: it overflows .* `pipe.vae.to\(torch.flo"):
        to_latents(vae, A[0])


def test_weights_offloaded_layer_by_layer_give_the_same_clip(pipe):
    before = pt(pipe.swap, A, B)
    cpu_offload(pipe.vae, execution_device=torch.device("cpu"))
    assert next(pipe.vae.parameters()).device.type == "meta"
    assert torch.equal(pt(pipe.swap, A, B), before)


def test_the_autoencoder_is_the_last_to_be_offloaded():
    assert DiViDPipeline.model_cpu_offload_seq.split("->")[-1] == "vae"
    assert set(DiViDPipeline.model_cpu_offload_seq.split("->")) == {"encoder", "prior", "unet", "vae"}


# --- left out, replaced, or another's ------------------------------------------------------------------------------


def test_without_its_autoencoder_a_pipeline_decodes_tokens_to_latents_and_no_more(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "whole")
    half = DiViDPipeline.from_pretrained(tmp_path / "whole", vae=None)
    half.save_pretrained(tmp_path / "half")
    again = DiViDPipeline.from_pretrained(tmp_path / "half")
    again.set_progress_bar_config(disable=True)
    assert not (tmp_path / "half" / "vae").exists() and again.vae is None
    expected = pt(pipe, *random_tokens(), output_type="latent")
    assert torch.equal(pt(again, *random_tokens(), output_type="latent"), expected)
    with pytest.raises(ValueError, match="works on latents and has no `vae`, so it gives latents only"):
        again(*random_tokens())
    for use in (again.encode, again.invert, again.reconstruct):
        with pytest.raises(ValueError, match="has no `vae`, so it encodes no clips: load it with one"):
            use(A)
    with_another = DiViDPipeline.from_pretrained(tmp_path / "half", vae=tiny_vae("VQModel"))
    assert with_another.frame_shape == (3, SIDE)


@pytest.mark.parametrize(
    ("vae", "sentence"),
    [
        (lambda: tiny_vae(latent_channels=5), "its latents have 5 channels, and encoder and UNet take 4"),
        (
            lambda: tiny_vae("AutoencoderKL", block_out_channels=(8,), down_block_types=("DownEncoderBlock2D",),
                             up_block_types=("UpDecoderBlock2D",)),
            "its latents are 1 times smaller than a frame, and .* on latents 2 times smaller",
        ),
        (tiny_unet, "A DiViDUNet2DConditionModel is no autoencoder"),
    ],
)  # fmt: skip
def test_an_autoencoder_that_does_not_fit_is_refused_when_loading(pipe, tmp_path, vae, sentence):
    pipe.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        DiViDPipeline.from_pretrained(tmp_path, vae=vae())


def test_a_model_of_pixels_takes_no_autoencoder(pipe):
    with pytest.raises(ValueError, match="take 3. Give the `vae` .* or none if they work on pixels"):
        DiViDPipeline(tiny_encoder(), tiny_unet(), SharedNoiseDDPMScheduler(), vae=pipe.vae)


def test_a_scheduler_that_clips_latents_is_refused(pipe):
    with pytest.raises(ValueError, match=r"SharedNoiseDDPMScheduler clips what the UNet says .*clip_sample=False"):
        DiViDPipeline(pipe.encoder, pipe.unet, SharedNoiseDDPMScheduler(), vae=pipe.vae)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=True)
    with pytest.raises(ValueError, match="DDIMScheduler clips"):
        pipe.reconstruct(A)


def test_a_pipeline_of_pixels_is_what_it_was():
    pipe = tiny_pipeline()
    assert pipe.vae is None and pipe.config.vae_scale_factor is None and pipe.frame_shape == (3, SIZE)
    clips = random_clips()
    assert torch.equal(torch.stack(pipe.prepare_frames(clips)), clips)
    tokens = pipe.encoder(clips)
    assert torch.equal(pipe.encode(clips).static, tokens.static) and tokens.static.shape == (2, WIDTH)
    latent = pt(pipe, *random_tokens(), output_type="latent", generator=seeded())
    assert torch.equal((latent / 2 + 0.5).clamp(0, 1), pt(pipe, *random_tokens(), generator=seeded()))
