"""Time and peak memory of decoding against the number of frames and of clips; each case in a process of its own.

python benchmarks/scaling.py
"""

import argparse
import json
import resource
import subprocess
import sys
import time


CASES = [(1, 10), (1, 100), (1, 300), (1, 1000), (4, 100), (10, 100)]  # (clips, frames)


def measure(model: str, clips: int, frames: int, steps: int) -> None:
    import torch

    from divid_diffusers import DiViDPipeline

    pipe = DiViDPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    static = torch.randn(clips, pipe.unet.config.static_dim)
    dynamic = torch.randn(clips, frames, pipe.unet.config.dynamic_dim)
    config = pipe.unet.config
    seen = torch.rand(clips, config.in_channels, config.sample_size, config.sample_size) * 2 - 1
    options = {"reference": seen if config.reference_frame else None, "output_type": "pt"}
    pipe(static, dynamic[:, :1], num_inference_steps=1, **options)  # the first call pays for what is loaded lazily
    start = time.perf_counter()
    pipe(static, dynamic, num_inference_steps=steps, **options)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--model", default="examples/divid-puppets-tiny")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument(
        "--case", type=int, nargs=2, metavar=("CLIPS", "FRAMES"), help="Measure one case and print it."
    )
    args = parser.parse_args()
    if args.case:
        measure(args.model, *args.case, args.steps)
        return
    print("| clips | frames each | seconds | ms per frame and step | peak memory, MiB |\n|---|---|---|---|---|")
    for clips, frames in CASES:
        command = [sys.executable, __file__, "--model", args.model, "--steps", str(args.steps)]
        command += ["--case", str(clips), str(frames)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        seconds, memory = json.loads(out.splitlines()[-1])
        per_frame = 1000 * seconds / (clips * frames * args.steps)
        print(f"| {clips} | {frames} | {seconds:.2f} | {per_frame:.2f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
