"""Swap identity and motion between held-out Puppets: writes a picture and a GIF, prints scores."""

import argparse
import time
from pathlib import Path

import torch

from divid_diffusers import DiViDPipeline, export_clip
from divid_diffusers.clips.writing import check_export
from divid_diffusers.data.puppets import MOTIONS, Puppets
from divid_diffusers.evaluation.true_swap import score_true_swaps, true_clips


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
parser.add_argument("--model", default=str(Path(__file__).parent / "divid-puppets-small"), help="Trained on Puppets.")
parser.add_argument("--output_dir", type=Path, default="outputs", help="Where swap.png and swap.gif go.")
parser.add_argument("--num_people", type=int, default=4, choices=range(1, 13), metavar="N", help="Rows, up to 12.")
parser.add_argument("--num_motions", type=int, default=5, choices=range(1, 13), metavar="N", help="Columns, up to 12.")
parser.add_argument("--seed", type=int, default=0, help="Of the clips and of the noise.")
parser.add_argument("--noise_from", choices=["dynamic"], help="Start from the motion clips' inverted noise.")
args = parser.parse_args()
start = time.perf_counter()
try:
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for name in ("swap.gif", "swap.png"):
        check_export(args.output_dir / name)  # before anything is decoded
except OSError as error:
    parser.error(str(error))

# Clips that the model has not seen: people to be, and other people's motions to perform.
clips = Puppets(200, seed=args.seed, split="test")
people = [clips[i] for i in range(args.num_people)]
by_motion = {MOTIONS[clips[i]["action"]]: clips[i] for i in range(199, args.num_people, -1)}
order = sorted(MOTIONS, key=lambda name: name not in ("jumping_jack", "kick", "bow", "lunge", "wave"))
motions = [by_motion[name] for name in order[: args.num_motions]]
static_donors, dynamic_donors = zip(*((person, motion) for person in people for motion in motions))

pipe = DiViDPipeline.from_pretrained(args.model)
frames = [motion["frames"] for motion in motions]
options = {"noise_from": args.noise_from, "generator": torch.Generator().manual_seed(args.seed), "output_type": "pt"}
swaps = torch.cat([pipe.swap(person["frames"], frames, **options).frames.cpu() for person in people])

# A grid of clips: identities down the left, motions along the top.
corner = torch.full_like(motions[0]["frames"], 255)
rows = [torch.cat([corner, *(motion["frames"] for motion in motions)], dim=-1) / 255]
for person, row in zip(people, swaps.split(len(motions))):
    rows.append(torch.cat([(person["frames"][:1] / 255).expand_as(row[0]), *row], dim=-1))
grid = torch.cat(rows, dim=-2)
export_clip(grid, args.output_dir / "swap.gif", fps=7)
export_clip(grid[4:5], args.output_dir / "swap.png")

scores = score_true_swaps(swaps, static_donors, dynamic_donors, true_clips(clips, swaps.shape[1]))["swaps"]
print(f"{len(swaps)} swaps of held-out clips, against the true clip as the renderer draws it:")
if scores["identity_kept"]:  # not with --num_people 1: there is nobody else to be
    print(f"  identity kept  {scores['identity_kept'][0]:.0%}   (nearer to the true person than to any other here)")
print(f"  motion kept    {scores['motion_kept'][0]:.0%}   (nearer to the true motion than to any other)")
print(f"  PSNR           {scores['psnr'][0]:.1f} dB")
print(f"  motion error   {scores['motion_error'][0]:.2f}   (0 perfect, 1 motionless)")
print(f"All in {time.perf_counter() - start:.1f} s. Look at swap.gif and swap.png in {args.output_dir}.")
