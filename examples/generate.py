"""Make up what is not given: new people and motions, new motions for a person, new people for a motion.

python examples/generate.py [CLIP]
"""

import argparse
from pathlib import Path

import torch

from divid_diffusers import DiViDPipeline, export_clip
from divid_diffusers.clips.writing import check_export
from divid_diffusers.data.puppets import Puppets
from divid_diffusers.data.sampling import draw_clips, sample_frame_indices
from divid_diffusers.flags import SEED, whole


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
parser.add_argument("clip", nargs="?", help="A video, GIF or folder of frames; default: a puppet.")
parser.add_argument("--dataset", help="Or a prepared set, of which a test clip is drawn.")
parser.add_argument("--model", default=str(Path(__file__).parent / "divid-puppets-tiny"), help="It has a prior.")
parser.add_argument("--num_clips", type=whole(1), default=6, help="In each row.")
parser.add_argument("--seed", type=SEED, default=0)
parser.add_argument("--output", default="outputs/generated.gif", help="A .gif, .mp4 or .png.")
args = parser.parse_args()
try:
    Path(args.output).expanduser().parent.mkdir(parents=True, exist_ok=True)
    output = check_export(args.output)  # before anything is decoded
except (ValueError, OSError) as error:
    parser.error(str(error))

pipe = DiViDPipeline.from_pretrained(args.model)
if pipe.prior is None:
    parser.error(f"{args.model} has no prior: add one with training/train_prior.py.")
clip = args.clip or Puppets(1, split="test")[0]["frames"]
if args.dataset:
    from divid_diffusers.data.prepared import load_clips  # needs the extra `data`

    clip = draw_clips(load_clips(args.dataset, "test"), 1, args.seed)[0]["frames"]
channels, size = pipe.frame_shape
frames = pipe.clip_processor.preprocess(clip, size=size, num_channels=channels)[0] / 2 + 0.5
given = frames[sample_frame_indices(len(frames), min(pipe.prior.config.max_frames, len(frames)))]
generator = torch.Generator().manual_seed(args.seed)
options = {"num_clips": args.num_clips, "num_frames": len(given), "generator": generator, "output_type": "pt"}
rows = []
for kept in ({}, {"static": given}, {"dynamic": given}):
    new = pipe.generate(**options, **kept).frames.cpu()
    left = torch.ones_like(given) if not kept else given[:1].expand_as(given) if "static" in kept else given
    rows.append(torch.cat([left, *new], dim=-1))
export_clip(torch.cat(rows, dim=-2), output, fps=7)
print(f"Look at {output}. From the top: nobody's motions; motions for the person at the left; people for that motion.")
