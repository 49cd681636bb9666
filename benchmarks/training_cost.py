"""CPU time and memory of a training step, in float32 and in bfloat16, of DiViD and the baselines, each in its process.

python benchmarks/training_cost.py
python benchmarks/training_cost.py --cases paper --steps 1
"""

import argparse
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

import torch


TRAINING = Path(__file__).parents[1] / "training"

CASES = {
    "tiny": ["tiny_sprites.yaml", "tiny_sprites.yaml --train_batch_size 24", "dbse_sprites.yaml", "spyl_sprites.yaml"],
    "paper": [
        "paper.yaml --train_batch_size 1",
        "paper.yaml --train_batch_size 1 --frames_per_clip 4",
        "paper.yaml --train_batch_size 1 --gradient_checkpointing",
    ],
}


def recipe(flags: list[str]):
    """What the trainer would train, on clips of 64 x 64 pixels in colour."""
    import train_baseline  # a case's own process has the folder training/ on its path, as the trainers have
    import train_divid
    from trainer.arguments import parse_args

    from divid_diffusers import build_baseline

    if "dbse" in flags[0] or "spyl" in flags[0]:
        args = train_baseline.parse_args([*flags, "--contrast_from_epoch=0"])
        model = build_baseline(args.method, args.form, args.preset, 3, 64, pixel_shortcut=args.pixel_shortcut)
        made = train_baseline.BaselineRecipe(model, 9000, torch.device("cpu"), args)
    else:
        args = parse_args(flags)
        args.calibrate_tokens = False  # which changes the start, not the cost
        models = encoder, unet, _ = train_divid.new_models(args, (3, 64), None)
        if args.gradient_checkpointing:
            encoder.enable_gradient_checkpointing()
            unet.enable_gradient_checkpointing()
        made = train_divid.DiViDRecipe(*models, args)
    return made, args


def measure(flags: list[str], steps: int) -> dict[str, float]:
    """The median step, and the peak of the process with gradients, Adam's averages and those of the weights (EMA)."""
    from trainer.recipe import BatchPosition

    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    made, args = recipe(flags)
    module = made.module.train()
    optimizer = torch.optim.AdamW(module.parameters())
    average = [parameter.detach().clone() for parameter in module.parameters()]
    clips = torch.rand(args.train_batch_size, args.num_frames, 3, 64, 64) * 2 - 1
    seconds = []
    for step in range(steps + 1):  # the first allocates
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.mixed_precision == "bf16"):
            loss = made.losses(module, clips, BatchPosition(step, 0, 0, 1))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(average, list(module.parameters()), 0.001)
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of KiB
    return {"seconds": sorted(seconds[1:])[steps // 2], "clips": args.train_batch_size, "GiB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--cases", default="tiny", choices=CASES)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--only", help=argparse.SUPPRESS)  # the case of a process
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(shlex.split(args.only), args.steps)))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread, {args.steps} steps\n")
    print(
        "| config and flags | CPU s per step | in bf16 | clips/s | in bf16 | peak, GiB | in bf16 |\n"
        + "|---" * 7
        + "|"
    )
    for case in CASES[args.cases]:
        found = []
        for precision in ("no", "bf16"):
            only = f"--config={TRAINING}/configs/{case} --mixed_precision={precision}"
            command = [sys.executable, __file__, f"--steps={args.steps}", f"--only={only}"]
            output = subprocess.run(
                command,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TRAINING)},
                check=True,
                capture_output=True,
                text=True,
            )
            found.append(json.loads(output.stdout.splitlines()[-1]))
        columns = [
            [f"{each['seconds']:.2f}", f"{each['clips'] / each['seconds']:.2f}", f"{each['GiB']:.1f}"]
            for each in found
        ]
        print(f"| `{case}` | " + " | ".join(value for pair in zip(*columns) for value in pair) + " |", flush=True)


if __name__ == "__main__":
    main()
