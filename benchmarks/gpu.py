"""How near a training step comes to what a GPU can compute, in one run: `limit.py` for cards.

    python benchmarks/gpu.py --presets tiny small paper --train_batch_size 16 64

The limit is measured: a matrix product and a 3x3 convolution in bfloat16. The work is counted (torch's FLOP counter:
convolutions and matrix products), not estimated. A step is encoder, UNet, loss, gradients and optimiser in autocast,
launched by the host kernel by kernel, or recorded once and played back (`--cuda_graph` of train_divid.py).
"""

import argparse
import gc
import statistics
import sys
import time
from pathlib import Path

import torch
from limit import flops

from divid_diffusers import SharedNoiseDDPMScheduler, build_models
from divid_diffusers.flags import whole
from divid_diffusers.presets import PRESETS
from divid_diffusers.training import losses


sys.path.append(str(Path(__file__).parents[1] / "training"))
from trainer.graph_loop import lstm_of_operators, record  # noqa: E402


RECIPE = {"prediction_type": "sample", "pixel_shortcut": True, "shrink_input": True}
COLUMNS = "preset", "step", "clips", "TFLOP", "ms", "clips/s", "share of the peak", "peak memory, GiB"


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--presets", choices=sorted(PRESETS), nargs="+", default=["tiny", "small"])
    parser.add_argument("--train_batch_size", type=whole(1), nargs="+", default=[64], help="Clips.")
    parser.add_argument("--num_frames", type=whole(1), default=10)
    parser.add_argument("--frames_per_clip", type=whole(1), default=4, help="Denoised, of all.")
    parser.add_argument("--repeats", type=whole(3), default=7)
    return parser.parse_args(argv)


def median_seconds(function, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.no_grad()
def peaks(repeats: int) -> tuple[float, float]:
    """TFLOP/s of a matrix product 8192³, and of a 3x3 convolution of 256 channels, 64 images of 64 pixels."""
    a, b = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16)
    layer = torch.nn.Conv2d(256, 256, 3, padding=1).to("cuda", torch.bfloat16, memory_format=torch.channels_last)
    images = torch.randn(64, 256, 64, 64, device="cuda", dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    taken = []
    for function in (lambda: a @ b, lambda: layer(images)):
        for _ in range(3):
            function()
        taken.append(median_seconds(function, repeats))
    return 2 * 8192**3 / taken[0] / 1e12, 2 * 64 * 256**2 * 9 * 64**2 / taken[1] / 1e12


class Step:
    """One training step of a preset."""

    def __init__(self, preset: str, batch: int, args):
        torch.manual_seed(0)
        options = {} if preset == "paper" else RECIPE
        self.encoder, self.unet = (model.to("cuda").train() for model in build_models(preset, 3, 64, **options))
        self.parameters = [*self.encoder.parameters(), *self.unet.parameters()]
        rate = torch.tensor(1e-4, device="cuda")
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, fused=True, capturable=True)
        self.scheduler = SharedNoiseDDPMScheduler()
        self.chosen = torch.arange(args.frames_per_clip, device="cuda")
        self.clips = torch.rand(batch, args.num_frames, 3, 64, 64, device="cuda") * 2 - 1
        self.noise = torch.randn(batch, 1, 3, 64, 64, device="cuda")
        self.timesteps = torch.randint(1000, (batch,), device="cuda")

    def __call__(self) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            tokens, frames = self.encoder(self.clips, dynamic_frames=self.clips), self.clips[:, self.chosen]
            noisy = self.scheduler.add_noise(frames, self.noise, self.timesteps)
            dynamic = tokens.dynamic[:, self.chosen]
            told = self.unet(noisy, self.timesteps, static=tokens.static, dynamic=dynamic).sample
            loss = losses.ddpm_loss(told, frames).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return loss.detach()

    def launched(self) -> None:
        self.optimizer.zero_grad()
        self()

    def recorded(self):
        lstm = self.encoder.lstm
        lstm.forward = lstm_of_operators(lstm)
        return record(self, self.optimizer)[0].replay


def row(preset: str, how: str, batch: int, args, peak: float) -> list[str]:
    """A line of the table."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step = Step(preset, batch, args)
    work = flops(step.launched)
    function = step.recorded() if how == "recorded" else step.launched
    for _ in range(3):
        function()
    taken = median_seconds(function, args.repeats)
    memory = torch.cuda.max_memory_allocated() / 2**30
    share = f"{work / taken / 1e12 / peak:.1%}"
    cells = [f"{work / 1e12:.2f}", f"{1e3 * taken:.1f}", f"{batch / taken:.0f}", share, f"{memory:.1f}"]
    return [preset, how, str(batch), *cells]


def main(argv=None) -> None:
    args = parse_args(argv)
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU: benchmarks/limit.py measures a CPU.")
    product, convolution = peaks(args.repeats)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16; {args.frames_per_clip} of ", end="")
    print(f"{args.num_frames} frames; medians of {args.repeats}. Matrix product {product:.0f} TFLOP/s, ", end="")
    print(f"convolution {convolution:.0f}.\n\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for preset in args.presets:
        for batch in args.train_batch_size:
            for how in ("launched", "recorded"):
                line = row(preset, how, batch, args, max(product, convolution))
                print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main()
