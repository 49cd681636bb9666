"""The smallest models that have every part of the real ones, and clips for them."""

import io
import zipfile

import numpy as np
import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL, AutoencoderTiny, VQModel

from divid_diffusers import (
    DiViDPipeline,
    DiViDSequenceEncoder,
    DiViDTokenPrior,
    DiViDUNet2DConditionModel,
    SharedNoiseDDPMScheduler,
    TokenDirections,
)
from divid_diffusers.models.encoder_signature import encoder_signature


SIZE, WIDTH = 16, 16  # pixels per side of a frame; width of both tokens

ENCODER = {
    "sample_size": SIZE,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "static_hidden_dim": 32,
    "static_dim": WIDTH,
    "dynamic_dim": WIDTH,
    "lstm_hidden_dim": 16,
    "num_attention_heads": 2,
}
UNET = {
    "sample_size": SIZE,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "attention_levels": (False, True),
    "num_attention_heads": 2,
    "cross_attention_dim": 16,
    "static_dim": WIDTH,
    "dynamic_dim": WIDTH,
    "norm_num_groups": 8,
}


def tiny_encoder(**overrides):
    return DiViDSequenceEncoder(**(ENCODER | overrides)).eval()


def tiny_unet(**overrides):
    return DiViDUNet2DConditionModel(**(UNET | overrides)).eval()


def tiny_pipeline(scheduler=None, num_inference_steps=3, in_channels=3, **unet):
    encoder = tiny_encoder(in_channels=in_channels)
    unet = tiny_unet(in_channels=in_channels, out_channels=in_channels, **unet)
    scheduler = scheduler or SharedNoiseDDPMScheduler(prediction_type=unet.config.prediction_type)
    pipe = DiViDPipeline(encoder, unet, scheduler, num_inference_steps)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_directions(encoder, **overrides):
    """Two of s and three of d, of which only "static 1" is of a label, "top"."""
    directions = TokenDirections(
        **({"static_dim": WIDTH, "dynamic_dim": WIDTH, "num_static": 2, "num_dynamic": 3} | overrides),
        encoder_signature=encoder_signature(encoder),
        explained={"static 1": {"hair": 0.2, "top": 0.6}, "static 2": {"hair": 0.29}},
    )
    for rows in (directions.static, directions.dynamic):
        rows.data.copy_(torch.randn(rows.shape, generator=seeded(3)))
    return directions


def tiny_prior(encoder, **overrides):
    torch.manual_seed(0)
    options = {"static_dim": WIDTH, "dynamic_dim": WIDTH, "max_frames": 6, "width": 16, "num_layers": 1}
    return DiViDTokenPrior(**(options | {"encoder_signature": encoder_signature(encoder)} | overrides)).eval()


DOWN, UP = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
KL = {"down_block_types": DOWN, "up_block_types": UP, "latent_channels": 4, "norm_num_groups": 4}
AUTOENCODERS = {
    "AutoencoderKL": lambda **kw: AutoencoderKL(**KL | {"block_out_channels": (8, 8)} | kw),
    "AutoencoderTiny": lambda **kw: AutoencoderTiny(
        **{
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "num_encoder_blocks": (1, 1),
            "num_decoder_blocks": (1, 1),
        }
        | kw
    ),
    "AsymmetricAutoencoderKL": lambda **kw: AsymmetricAutoencoderKL(
        **KL | {"down_block_out_channels": (8, 8), "up_block_out_channels": (8, 16)} | kw
    ),
    "VQModel": lambda **kw: VQModel(**KL | {"block_out_channels": (8, 8), "num_vq_embeddings": 32} | kw),
}


def tiny_vae(kind="AutoencoderTiny", **overrides):
    """Latents of 4 channels, half as large as a frame."""
    torch.manual_seed(0)
    return AUTOENCODERS[kind](**overrides).eval().requires_grad_(False)


def latent_pipeline(vae=None, num_inference_steps=3, **options):
    """On latents of `SIZE`, so for frames of twice that."""
    vae = tiny_vae() if vae is None else vae
    unet = tiny_unet(in_channels=4, out_channels=4)
    scheduler = SharedNoiseDDPMScheduler(clip_sample=False)
    pipe = DiViDPipeline(tiny_encoder(in_channels=4), unet, scheduler, num_inference_steps, vae=vae, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def random_clips(batch=2, frames=3, channels=3, seed=0, size=SIZE):
    """`(B, N, C, H, W)` in [-1, 1]; every pixel another value, so that any mix-up shows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, frames, channels, size, size, generator=generator) * 2 - 1


def random_tokens(batch=2, frames=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, WIDTH, generator=generator), torch.randn(batch, frames, WIDTH, generator=generator)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def influence(output, source):
    """
    How much `source` moves `output`: the gradient of a random mixture of its numbers, zeros where there is no path.
    """
    weights = torch.randn(output.shape, generator=seeded(1))
    (gradient,) = torch.autograd.grad((output * weights).sum(), source, retain_graph=True, allow_unused=True)
    return torch.zeros_like(source) if gradient is None else gradient


def same_weights(one, other):
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


# --- the shortest training runs: flags of both trainers ------------------------------------------------------------

SHORT_RUN = {
    "num_puppets": 7,
    "num_frames": 3,
    "train_batch_size": 2,
    "learning_rate": 1e-3,
    "lr_scheduler": "constant_with_warmup",  # so that a run is the first part of a longer one
    "lr_warmup_steps": 0,
    "max_train_steps": 1,
    "checkpointing_steps": 100,
    "validation_steps": 0,
    "logging_steps": 1,
    "num_validation_clips": 2,
    "report_to": "none",
}
# An epoch of 7 clips ends in the middle of a batch, and a step takes two batches: both must survive a resume.
RUN = {"max_train_steps": 4, "gradient_accumulation_steps": 2, "checkpointing_steps": 2}


# --- a stand-in for the packed depth set ---------------------------------------------------------------------------

DEPTH_CLIPS = [(action, subject, trial) for action in range(1, 8) for subject in range(1, 9) for trial in range(1, 3)]


def depth_members():
    """Another number of frames for every trial; the first pixels tell which clip it is."""
    members = {}
    for action, subject, trial in DEPTH_CLIPS:
        frames = np.zeros((trial + 1, 64, 64), np.uint8)
        frames[:, 0, :3] = action, subject, trial
        members[f"depth/a{action}_s{subject}_t{trial}_depth.npy"] = frames
    return members


def write_depth_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            buffer = io.BytesIO()
            np.save(buffer, content, allow_pickle=content.dtype == object)
            archive.writestr(name, buffer.getvalue())
    return path
