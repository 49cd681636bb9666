"""The method on one page, in plain torch: train a small DiViD on drawn puppets, then swap two of them.

Numbers in brackets are equations of Gheisari and Genovesio 2025, arXiv:2507.13934.
"""

import argparse
from pathlib import Path

import torch
from diffusers import DDIMScheduler

from divid_diffusers import DiViDPipeline, SharedNoiseDDPMScheduler, build_models, export_clip
from divid_diffusers.data.puppets import Puppets
from divid_diffusers.training.calibration import calibrate


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
parser.add_argument("--steps", type=int, default=600, help="Half a second each on one CPU core.")
parser.add_argument("--predict", choices=["eps", "x_0"], default="x_0", help="eps: the paper; x_0 shows more, sooner.")
parser.add_argument("--output", type=Path, default="outputs/minimal.gif")
args = parser.parse_args()
torch.manual_seed(0)

# Eight people in 64 clips (64, N, C, H, W) in [-1, 1]: few enough to be learned by heart.
clips = torch.stack([clip["frames"] for clip in Puppets(64, num_appearances=8)]) / 127.5 - 1
prediction_type = {"eps": "epsilon", "x_0": "sample"}[args.predict]
encoder, unet = build_models("tiny", prediction_type=prediction_type, pixel_shortcut=True, shrink_input=True)
calibrate(encoder, clips)
scheduler = SharedNoiseDDPMScheduler(prediction_type=prediction_type)
parameters = [*encoder.parameters(), *unet.parameters()]
optimizer = torch.optim.AdamW(parameters, lr=1e-3)

for step in range(args.steps):
    x_0 = clips[torch.randint(len(clips), (8,))]
    s, d = encoder(x_0).to_tuple()  # who: s (B, S); how they move: d_1 .. d_N (B, N, D)
    # (1): one t and one eps per clip, so the noise says nothing about motion.
    t = torch.randint(len(scheduler.alphas_cumprod), (len(x_0),))
    abar = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
    eps = torch.randn_like(x_0[:, :1]).expand_as(x_0)
    x_t = abar.sqrt() * x_0 + (1 - abar).sqrt() * eps
    # (3): the mean over all frames, estimated from four of them.
    i = torch.randperm(x_0.shape[1])[:4]
    target = {"eps": eps, "x_0": x_0}[args.predict][:, i]
    loss_ddpm = (target - unet(x_t[:, i], t, static=s, dynamic=d[:, i]).sample).square().mean()
    # (4) and (5)
    loss_orth = torch.cosine_similarity(s[:, None], d, dim=-1).square().mean()
    loss = loss_ddpm + 0.1 * loss_orth
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: L_DDPM {loss_ddpm.item():.4f}, L_orth {loss_orth.item():.4f}", flush=True)

sampler = DDIMScheduler.from_config(scheduler.config, timestep_spacing="trailing")
pipe = DiViDPipeline(encoder.eval(), unet.eval(), sampler, num_inference_steps=10)
person, motion = clips[50], clips[12]  # of another; left to right in the GIF: this person, that motion, the swap
swap = pipe.swap(person, motion, generator=torch.Generator().manual_seed(0), output_type="pt").frames[0]
args.output.parent.mkdir(parents=True, exist_ok=True)
export_clip(torch.cat([person / 2 + 0.5, motion / 2 + 0.5, swap], dim=-1), args.output)
