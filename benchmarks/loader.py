"""How fast clips are loaded against how fast `tiny` trains on them, in one run.

    python benchmarks/loader.py --datasets puppets data/mhad-depth data/sprites

The loader is the trainer's: whole clips from the prepared set, N frames of each drawn at random, batches from
`--workers` processes.
"""

import argparse
import os
import platform
import time

import torch
from presets import NUM_FRAMES, seconds, training_step

from divid_diffusers import build_pipeline
from divid_diffusers.data.prepared import load_clips
from divid_diffusers.data.puppets import Puppets
from divid_diffusers.data.sampling import ResumableBatchSampler, SampledClips


def loading_rate(clips, workers: int, batch_size: int, num_batches: int) -> float:
    """Clips per second; the start of the workers is not counted."""
    loader = torch.utils.data.DataLoader(
        SampledClips(clips, NUM_FRAMES),
        batch_sampler=ResumableBatchSampler(len(clips), batch_size),
        num_workers=workers,
    )
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    for _ in range(num_batches):
        next(batches)
    return num_batches * batch_size / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--datasets", nargs="+", default=["puppets"], help="puppets, or folders of training/prepare/*.py."
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--num_batches", type=int, default=100)
    parser.add_argument("--frames_per_clip", type=int, default=4)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads\n"
    )
    step = training_step(build_pipeline("tiny"), args.frames_per_clip, args.batch_size)
    step()
    training = args.batch_size / seconds(step, 10)
    print("| data set | workers | loader, clips/s | tiny trains, clips/s | ratio |\n|---|---|---|---|---|")
    for name in args.datasets:
        clips = Puppets(10_000) if name == "puppets" else load_clips(name, "train")
        for workers in args.workers:
            rate = loading_rate(clips, workers, args.batch_size, args.num_batches)
            row = f"{os.path.basename(name)} | {workers} | {rate:.0f} | {training:.1f} | {rate / training:.1f}"
            print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
