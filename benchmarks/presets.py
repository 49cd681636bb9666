"""Size and speed of the presets, and where a training step spends its time.

python benchmarks/presets.py
"""

import argparse
import os
import platform
import time

import torch
from torch.profiler import ProfilerActivity, profile

from divid_diffusers import build_pipeline
from divid_diffusers.training import losses


NUM_FRAMES = 10
KINDS = {"conv": "convolution", "attention": "attention", "mm": "matrix product", "norm": "normalisation"}


def count(module: torch.nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f} M"


def training_step(pipe, frames_per_clip: int, batch_size: int):
    encoder, unet = pipe.encoder.train(), pipe.unet.train()
    clips = torch.rand(batch_size, NUM_FRAMES, 3, 64, 64) * 2 - 1
    noise = torch.randn(batch_size, 1, 3, 64, 64)
    timesteps = torch.randint(1000, (batch_size,))

    def step():
        tokens = encoder(clips)
        chosen = clips[:, :frames_per_clip]
        noisy = pipe.scheduler.add_noise(chosen, noise, timesteps)
        out = unet(noisy, timesteps, static=tokens.static, dynamic=tokens.dynamic[:, :frames_per_clip]).sample
        losses.ddpm_loss(out, noise.expand_as(out)).mean().backward()

    return step


def seconds(function, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def where_time_goes(step) -> dict[str, float]:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    events = [(event.key, event.self_cpu_time_total) for event in profiler.key_averages()]
    total = sum(each for _, each in events)
    shares = dict.fromkeys(KINDS.values(), 0.0)
    for key, each in events:
        kind = next((kind for word, kind in KINDS.items() if word in key), None)
        if kind:
            shares[kind] += each / total
    return shares | {"all else": 1 - sum(shares.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--presets", nargs="+", default=["tiny", "paper"])
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads\n"
    )
    for preset in args.presets:
        pipe = build_pipeline(preset)
        pipe.set_progress_bar_config(disable=True)
        small = preset == "tiny"
        batch_size, frames_per_clip, repeats = (8, 4, 10) if small else (1, 4, 1)
        print(f"## {preset}\n\n| part | parameters |\n|---|---|")
        for name, module in [*pipe.encoder.named_children(), *pipe.unet.named_children()]:
            if any(True for _ in module.parameters()):
                print(f"| {name} | {count(module)} |")
        print(f"| **encoder** | **{count(pipe.encoder)}** |\n| **UNet** | **{count(pipe.unet)}** |\n")
        step = training_step(pipe, frames_per_clip, batch_size)
        step()
        clips_per_second = batch_size / seconds(step, repeats)
        shares = where_time_goes(step)
        pipe.encoder.eval()
        pipe.unet.eval()
        clip = torch.rand(1, NUM_FRAMES, 3, 64, 64)
        steps = 10 if small else 1
        sampling = seconds(lambda: pipe.reconstruct(clip, num_inference_steps=steps), 3 if small else 1) / steps
        print("| measure | value |\n|---|---|")
        print(
            f"| training, clips/s ({frames_per_clip} of {NUM_FRAMES} frames denoised, batch {batch_size}) | "
            f"{clips_per_second:.3f} |"
        )
        print(f"| sampling, s per {NUM_FRAMES}-frame clip and step (encoding included) | {sampling:.3f} |")
        for kind, share in shares.items():
            print(f"| share of a training step: {kind} | {share:.0%} |")
        print()


if __name__ == "__main__":
    main()
