"""How often judges are right on real held-out clips: as they are, blurred, and with noise as decoders leave it.

    python training/judge_accuracy.py --dataset data/mhad-depth \\
        --judge examples/judge-mhad-depth examples/judge-mhad-depth-3d
"""

import argparse
from pathlib import Path

import torch
from train_judge import measure

from divid_diffusers.data.prepared import load_clips
from divid_diffusers.flags import SEED
from divid_diffusers.models.judge import ClipJudge, shown


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--judge", nargs="+", required=True, metavar="JUDGE")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", choices=["validation", "test"], default="test")
    parser.add_argument("--seed", type=SEED, default=0)
    args = parser.parse_args(argv)
    torch.set_flush_denormal(True)
    clips = load_clips(args.dataset, args.split)
    rows = []
    for path in args.judge:
        judge = ClipJudge.from_pretrained(path).eval()
        args.factors, args.num_frames = list(judge.config.factors), judge.config.num_frames
        for what, found in measure(judge, clips, args).items():
            rows.append([Path(path).name, what, *(shown(found[name]) for name in (*args.factors, "joint"))])
    print(f"{len(clips)} {args.split} clips of {Path(args.dataset).name}\n")
    print(f"| judge | clips | {' | '.join(args.factors)} | all |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
