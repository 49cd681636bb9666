"""What each option of `tiny` buys: short runs of the trainer that differ in one thing, scored against the true swaps.

    python training/evaluate/ablations.py --steps 800 -- "" "--no-calibrate_tokens" "--motion_weight 0"

A variant is flags of train_divid.py that are added to the config of the embedded checkpoint; "" is that config. The
schedule of the learning rate is that of a run of this length, so a longer run orders the variants for itself. Runs are
kept in --output_dir and, like any, go on where they stopped.
"""

import argparse
import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import torch

from divid_diffusers import DiViDPipeline
from divid_diffusers.data.puppets import Puppets
from divid_diffusers.evaluation.reconstruction import motion_error, psnr
from divid_diffusers.evaluation.true_swap import PuppetTruth, score_true_swaps
from divid_diffusers.flags import whole


TRAINING = Path(__file__).parents[1] / "training"


def train(variant: str, steps: int, folder: Path) -> DiViDPipeline:
    """Trained unless `folder` already holds the finished pipeline."""
    if not (folder / "model_index.json").exists():
        flags = f"--config {TRAINING / 'configs/tiny_puppets.yaml'} --max_train_steps {steps}"
        flags += " --validation_steps 0 --report_to none"
        command = [sys.executable, str(TRAINING / "train_divid.py"), *shlex.split(f"{flags} {variant}")]
        command += ["--output_dir", str(folder), "--resume_from_checkpoint", "latest"]
        subprocess.run(command, check=True)
    return DiViDPipeline.from_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--steps", type=whole(1), default=800)
    parser.add_argument("--num_test_clips", type=whole(1), default=64)
    parser.add_argument(
        "variants", nargs="*", default=[""], help="After --: flags of train_divid.py, each variant in quotes."
    )
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/ablations"))
    args = parser.parse_args()
    test_set = Puppets(args.num_test_clips, split="test")
    test = [test_set[i] for i in range(args.num_test_clips)]
    truth = torch.stack([clip["frames"] for clip in test]) / 255
    donors = test[1:] + test[:1]  # the identity of the next clip

    print(
        f"{args.steps} steps, {args.num_test_clips} held-out clips, seed 0, {os.cpu_count()} cores, torch "
        f"{torch.__version__}\n"
    )
    print("| variant | PSNR, dB | motion error | swap: PSNR, dB | motion error | identity kept | motion kept |")
    print("|---|---|---|---|---|---|---|")
    for variant in args.variants:
        name = hashlib.sha256(f"{args.steps} {variant}".encode()).hexdigest()[:12]
        pipe = train(variant, args.steps, args.output_dir / name)
        pipe.set_progress_bar_config(disable=True)
        tokens = pipe.encode(truth)
        decode = [
            pipe(static, tokens.dynamic, generator=torch.Generator().manual_seed(0), output_type="pt").frames
            for static in (tokens.static, tokens.static.roll(-1, dims=0))
        ]
        swap = score_true_swaps(decode[1], donors, test, PuppetTruth(truth.shape[1]))["swaps"]
        row = [psnr(truth, decode[0]).mean(), motion_error(truth, decode[0]).mean()]
        row += [swap["psnr"][0], swap["motion_error"][0]]
        cells = [f"{value:.2f}" for value in row] + [
            f"{swap[kept][0]:.0%}" for kept in ("identity_kept", "motion_kept")
        ]
        print(f"| {variant or 'the config'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
