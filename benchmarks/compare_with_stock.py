"""`tiny` against the obvious build from stock parts, in one run: training clips/s, held-out loss, time of a swap.

The obvious build has the same encoder, frame folding and widths, but a plain `UNet2DConditionModel` with eight heads
everywhere, tokens concatenated at every step, every frame in the loss, and samples with DDIM in 50 steps. Ours is
`tiny` as its configs train it: a few frames of each clip in the loss, calibrated tokens, shrunk input, pixel shortcut.
Both train on the same Puppets in the same order, so that their held-out losses are compared per clip seen; neither is
timed while it is evaluated.

    python benchmarks/compare_with_stock.py --steps 300
"""

import argparse
import os
import platform
import time

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F

from divid_diffusers import DiViDPipeline, SharedNoiseDDPMScheduler, build_models
from divid_diffusers.data.puppets import Puppets
from divid_diffusers.presets import PRESETS
from divid_diffusers.training import losses
from divid_diffusers.training.calibration import calibrate


PATCH = PRESETS["tiny"]["unet"]["patch_size"]
NUM_FRAMES = 10


class StockUNet(nn.Module):
    """The obvious build."""

    def __init__(self):
        super().__init__()
        tiny = PRESETS["tiny"]["unet"]
        self.unet = UNet2DConditionModel(
            sample_size=64 // PATCH,
            in_channels=3 * PATCH**2,
            out_channels=3 * PATCH**2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=tiny["block_out_channels"],
            layers_per_block=tiny["layers_per_block"],
            attention_head_dim=8,  # diffusers' name for the number of heads
            cross_attention_dim=tiny["static_dim"],
            norm_num_groups=tiny["norm_num_groups"],
        )

    def forward(self, sample, timestep, static, dynamic):
        batch, num_frames = sample.shape[:2]
        context = torch.stack([static[:, None].expand_as(dynamic), dynamic], dim=2).flatten(0, 1)
        folded = F.pixel_unshuffle(sample.flatten(0, 1), PATCH)
        out = self.unet(folded, timestep.repeat_interleave(num_frames), context).sample
        return F.pixel_shuffle(out, PATCH).unflatten(0, (batch, num_frames))


class OurUNet(nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample, timestep, static, dynamic):
        return self.unet(sample, timestep, static=static, dynamic=dynamic).sample


def train(name, encoder, unet, frames_per_clip, args, clips, held_out):
    """Clips per second, and the held-out loss after every `--eval_every` steps."""
    scheduler = SharedNoiseDDPMScheduler(prediction_type="sample")
    parameters = [*encoder.parameters(), *unet.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(args.seed)
    seconds, curve = 0.0, []
    for step in range(args.steps):
        rows = torch.randint(len(clips), (args.batch_size,), generator=generator)
        timesteps = torch.randint(1000, (args.batch_size,), generator=generator)
        noise = torch.randn(args.batch_size, 1, 3, 64, 64, generator=generator)
        chosen = torch.rand(args.batch_size, NUM_FRAMES, generator=generator).argsort(1)[:, :frames_per_clip]
        start = time.perf_counter()
        batch = clips[rows].float() / 127.5 - 1
        tokens = encoder(batch)
        index = torch.arange(args.batch_size)[:, None]
        target = batch[index, chosen]
        prediction = unet(
            scheduler.add_noise(target, noise, timesteps), timesteps, tokens.static, tokens.dynamic[index, chosen]
        )
        losses.ddpm_loss(prediction, target).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds += time.perf_counter() - start
        if (step + 1) % args.eval_every == 0:
            curve.append(held_out_loss(encoder, unet, scheduler, held_out))
            print(f"  {name}: {(step + 1) * args.batch_size} clips seen, held-out loss {curve[-1]:.5f}", flush=True)
    return args.steps * args.batch_size / seconds, curve


@torch.no_grad()
def held_out_loss(encoder, unet, scheduler, clips) -> float:
    """Mean squared error in x_0 over eight evenly spaced t, all frames, fixed noise."""
    tokens = encoder(clips)
    noise = torch.randn(len(clips), 1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    total = 0.0
    for t in range(62, 1000, 125):
        timesteps = torch.full((len(clips),), t)
        prediction = unet(scheduler.add_noise(clips, noise, timesteps), timesteps, tokens.static, tokens.dynamic)
        total += losses.ddpm_loss(prediction, clips).mean().item() / 8
    return total


@torch.no_grad()
def stock_swap(encoder, unet, static_clip, dynamic_clip, steps: int) -> torch.Tensor:
    scheduler = DDIMScheduler(prediction_type="sample", timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    static, dynamic = encoder(static_clip).static, encoder(dynamic_clip).dynamic
    latents = torch.randn(1, 1, 3, 64, 64).expand(dynamic_clip.shape)
    for t in scheduler.timesteps:
        latents = scheduler.step(unet(latents, t[None], static, dynamic), t, latents).prev_sample
    return latents


def median_seconds(function, repeats: int = 5) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--eval_every", type=int, default=100)
    parser.add_argument("--frames_per_clip", type=int, default=4, help="Of ours; the stock build denoises all ten.")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument(
        "--num_inference_steps", type=int, default=10, help="Of ours, the embedded checkpoint's default."
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )

    puppets = Puppets(min(args.steps * args.batch_size, 2000))
    clips = torch.stack([puppets[i]["frames"] for i in range(len(puppets))])
    test = Puppets(16, split="test")
    held_out = torch.stack([test[i]["frames"] for i in range(16)]).float() / 127.5 - 1

    torch.manual_seed(args.seed)
    encoder, unet = build_models("tiny", prediction_type="sample", pixel_shortcut=True, shrink_input=True)
    calibrate(encoder, clips[:64].float() / 127.5 - 1)
    ours = train("ours ", encoder, OurUNet(unet), args.frames_per_clip, args, clips, held_out)
    torch.manual_seed(args.seed)
    stock_encoder, stock_unet = build_models("tiny")[0], StockUNet()
    stock = train("stock", stock_encoder, stock_unet, NUM_FRAMES, args, clips, held_out)

    scheduler = DDIMScheduler(prediction_type="sample", timestep_spacing="trailing")
    pipe = DiViDPipeline(encoder.eval(), unet.eval(), scheduler, args.num_inference_steps)
    pipe.set_progress_bar_config(disable=True)
    a, b = held_out[:1], held_out[1:2]
    our_swap = median_seconds(lambda: pipe.swap(a, b, output_type="pil"))
    their_swap = median_seconds(lambda: stock_swap(stock_encoder, stock_unet, a, b, 50))

    print("\n| | ours (tiny) | stock parts | ratio |\n|---|---|---|---|")
    print(f"| training, clips/s | {ours[0]:.2f} | {stock[0]:.2f} | {ours[0] / stock[0]:.2f} |")
    seen = args.steps * args.batch_size
    print(
        f"| held-out loss after {seen} clips | {ours[1][-1]:.5f} | {stock[1][-1]:.5f} | "
        f"{ours[1][-1] / stock[1][-1]:.2f} |"
    )
    print(
        f"| 10-frame swap, s ({args.num_inference_steps} and 50 DDIM steps) | {our_swap:.2f} | {their_swap:.2f} "
        f"| {our_swap / their_swap:.2f} |"
    )


if __name__ == "__main__":
    main()
