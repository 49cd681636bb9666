"""How near a training step and the sampler come to what the machine can compute, in one run.

    python benchmarks/limit.py --threads 1 2

The limit is measured: matrix products and 3x3 convolutions of the size that suits the machine. The work is counted
(torch's FLOP counter: convolutions and matrix products, nothing else), not estimated. "Plain" is the same step before
it was hurried: the encoder run twice, torch's own attention in whatever precision, AdamW parameter by parameter. It
and ours are timed in turn, so that what else the machine does falls on both.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import torch
from compare_with_stock import median_seconds
from diffusers import DDIMScheduler
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from divid_diffusers import DiViDPipeline, SharedNoiseDDPMScheduler, build_models
from divid_diffusers.flags import whole
from divid_diffusers.models.sequence_encoder import DiViDTokens
from divid_diffusers.presets import PRESETS
from divid_diffusers.training import losses


FRAMES, OPTIONS = 10, {"prediction_type": "sample", "pixel_shortcut": True, "shrink_input": True}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tiny")
    parser.add_argument("--threads", type=whole(1), nargs="+", default=[1, 2])
    parser.add_argument("--train_batch_size", type=whole(1), default=8, help="Clips.")
    parser.add_argument("--frames_per_clip", type=whole(1, FRAMES), default=4, help="Denoised, of ten.")
    parser.add_argument("--num_inference_steps", type=whole(1), default=3, help="Of a swap.")
    parser.add_argument("--repeats", type=whole(3), default=7)
    return parser.parse_args(argv)


def processor() -> str:
    """Name and the instruction sets that matter here."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = next((line.split(":")[1].strip() for line in told.splitlines() if line.startswith("model name")), "")
    kinds = [kind for kind in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {kind} " in told.replace("\n", " ")]
    return f"{name or platform.processor() or platform.machine()} ({', '.join(kinds) or 'instruction sets unknown'})"


def gemm(dtype: torch.dtype, repeats: int, size: int = 2048) -> float:
    """GFLOP/s of a matrix product."""
    a, b = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    return 2 * size**3 / median_seconds(lambda: a @ b, repeats) / 1e9


def convolution(dtype: torch.dtype, repeats: int, channels: int = 128, size: int = 64) -> float:
    """GFLOP/s of a 3x3 convolution, channels last, forward."""
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1).to(dtype, memory_format=torch.channels_last)
    images = torch.randn(4, channels, size, size, dtype=dtype).to(memory_format=torch.channels_last)
    with torch.no_grad():
        taken = median_seconds(lambda: layer(images), repeats)
    return 2 * 4 * channels**2 * 9 * size**2 / taken / 1e9


class Step:
    """One training step: loss, gradients, optimiser."""

    def __init__(self, args, plain: bool, autocast: bool):
        torch.manual_seed(0)
        self.encoder, self.unet = build_models(args.preset, 1, 64, **OPTIONS)
        self.plain, self.autocast = plain, autocast
        self.parameters = [*self.encoder.parameters(), *self.unet.parameters()]
        speed = {"fused": True} if not plain else {"foreach": False}
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, **speed)
        self.scheduler = SharedNoiseDDPMScheduler(prediction_type="sample")
        batch, self.chosen = args.train_batch_size, torch.arange(args.frames_per_clip) * 2 % FRAMES
        self.clips = torch.rand(batch, FRAMES, 1, 64, 64) * 2 - 1
        self.noise, self.timesteps = torch.randn(batch, 1, 1, 64, 64), torch.arange(batch) * 999 // max(batch - 1, 1)

    def tokens(self) -> DiViDTokens:
        if not self.plain:
            return self.encoder(self.clips, dynamic_frames=self.clips)
        static = self.encoder.encode_static(self.encoder.encode_frames(self.clips[:, :1])[:, 0])
        return DiViDTokens(static=static, dynamic=self.encoder.encode_dynamic(self.encoder.encode_frames(self.clips)))

    def loss(self) -> torch.Tensor:
        tokens, frames = self.tokens(), self.clips[:, self.chosen]
        noisy = self.scheduler.add_noise(frames, self.noise, self.timesteps)
        told = self.unet(noisy, self.timesteps, static=tokens.static, dynamic=tokens.dynamic[:, self.chosen]).sample
        return losses.ddpm_loss(told.float(), frames).mean()

    def __call__(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=self.autocast))
            for file in ("attention_processor", "sequence_encoder") if self.plain else ():
                target = f"divid_diffusers.models.{file}.attend"
                stack.enter_context(mock.patch(target, F.scaled_dot_product_attention))
            loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def flops(function: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def swap_of(args, autocast: bool) -> Callable[[], object]:
    """Ten frames, from clips to clip."""
    encoder, unet = build_models(args.preset, 1, 64, **OPTIONS)
    scheduler = DDIMScheduler(prediction_type="sample", timestep_spacing="trailing")
    pipe = DiViDPipeline(encoder.eval(), unet.eval(), scheduler, args.num_inference_steps)
    pipe.set_progress_bar_config(disable=True)
    clips = torch.rand(2, 1, FRAMES, 1, 64, 64)

    def swap():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return pipe.swap(clips[0], clips[1], output_type="pt")

    return swap


def measure(threads: int, autocast: bool, args) -> dict[str, str]:
    """A column of the table."""
    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if autocast else torch.float32
    product, images = gemm(dtype, args.repeats), convolution(dtype, args.repeats)
    peak = max(product, images)
    plain, ours = Step(args, True, autocast), Step(args, False, autocast)
    work = flops(ours)
    times = {plain: [], ours: []}
    plain()  # ours was run to be counted
    for _ in range(args.repeats):
        for step in times:
            start = time.perf_counter()
            step()
            times[step].append(time.perf_counter() - start)
    ratios = sorted(one / other for one, other in zip(times[plain], times[ours]))
    ours_taken, plain_taken = statistics.median(times[ours]), statistics.median(times[plain])
    swap = swap_of(args, autocast)
    swap_work, swap_taken = flops(swap), median_seconds(swap, args.repeats)
    spread = f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
    return {
        "matrix product 2048³, GFLOP/s": f"{product:.0f}",
        "3×3 convolution, 128 channels, 64 px, GFLOP/s": f"{images:.0f}",
        f"step of {work / 1e9:.1f} GFLOP, GFLOP/s": f"{work / ours_taken / 1e9:.0f}",
        "... as a share of the faster of both": f"{work / ours_taken / 1e9 / peak:.0%}",
        "... clips/s": f"{args.train_batch_size / ours_taken:.1f}",
        "plain step, clips/s": f"{args.train_batch_size / plain_taken:.1f}",
        "ours over plain, median [least, most]": spread,
        f"swap in {args.num_inference_steps} steps, s": f"{swap_taken:.3f}",
        "... its share of the faster of both": f"{swap_work / swap_taken / 1e9 / peak:.0%}",
    }


def main(argv=None) -> None:
    args = parse_args(argv)
    torch.set_flush_denormal(True)
    computes_bf16 = torch.cpu._is_avx512_bf16_supported()
    columns = {}
    for autocast in (False, True) if computes_bf16 else (False,):
        for threads in args.threads:
            columns[f"{threads} thread{'s'[: threads > 1]}, {'bf16' if autocast else 'fp32'}"] = measure(
                threads, autocast, args
            )
    print(f"{processor()}, torch {torch.__version__}; `{args.preset}`, {args.train_batch_size} clips, ", end="")
    print(f"{args.frames_per_clip} of {FRAMES} frames, one channel; medians of {args.repeats}.")
    if not computes_bf16:
        print("It does not compute in bfloat16, so float32 is all there is to measure.")
    print(f"\n| | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for row in next(iter(columns.values())):
        print(f"| {row} | {' | '.join(column[row] for column in columns.values())} |")


if __name__ == "__main__":
    main()
