"""From one person to another while the motion stays: `python examples/interpolate.py [CLIP CLIP]`, without clips of two puppets."""

import argparse
from pathlib import Path

import numpy as np
import torch

from divid_diffusers import DiViDPipeline, export_clip
from divid_diffusers.data.puppets import Puppets


parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("clips", nargs="*", help="Two videos, GIFs or folders of frames.")
parser.add_argument("--model", default=str(Path(__file__).parent / "divid-puppets-tiny"))
parser.add_argument("--factor", choices=["static", "dynamic", "both"], default="static", help="What changes.")
parser.add_argument("--num_clips", type=int, default=5)
parser.add_argument("--output", default="outputs/interpolation.gif")
args = parser.parse_args()
if len(args.clips) not in (0, 2):
    parser.error(f"Interpolation is between two clips, but {len(args.clips)} were given.")

pipe = DiViDPipeline.from_pretrained(args.model)
puppets = Puppets(2, split="test")
first, second = args.clips or (puppets[i]["frames"] for i in range(2))
generator = torch.Generator().manual_seed(0)
between = pipe.interpolate(
    first, second, factor=args.factor, num_clips=args.num_clips, generator=generator, output_type="np"
).frames

Path(args.output).parent.mkdir(parents=True, exist_ok=True)
side_by_side = np.concatenate(list(between), axis=2)  # (frames, height, clips * width, channels)
export_clip(side_by_side, args.output)
print(f"Look at {args.output}: {args.num_clips} clips, from the first to the second.")
