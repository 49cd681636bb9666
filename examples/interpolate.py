"""From person to person while the motion stays: `python examples/interpolate.py [CLIP CLIP]`; or between puppets."""

import argparse
from pathlib import Path

import numpy as np
import torch

from divid_diffusers import DiViDPipeline, export_clip
from divid_diffusers.clips.reading import frame_rate
from divid_diffusers.clips.writing import check_export, nearest_rate
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
try:
    Path(args.output).expanduser().parent.mkdir(parents=True, exist_ok=True)
    output = check_export(args.output)  # before anything is decoded
except (ValueError, OSError) as error:
    parser.error(str(error))

pipe = DiViDPipeline.from_pretrained(args.model)
puppets = Puppets(2, split="test")
first, second = args.clips or (puppets[i]["frames"] for i in range(2))
generator = torch.Generator().manual_seed(0)
options = {"generator": generator, "output_type": "np"}
if args.factor == "both":  # tokens are tensors: whatever the pipeline does not offer is done with them
    one, other = (pipe.encode(clip) for clip in (first, second))
    weight = torch.linspace(0, 1, args.num_clips)
    static = torch.lerp(one.static, other.static, weight[:, None])
    dynamic = torch.lerp(one.dynamic, other.dynamic, weight[:, None, None])
    between = pipe(static, dynamic, **options).frames
else:
    between = pipe.interpolate(first, second, factor=args.factor, num_clips=args.num_clips, **options).frames

side_by_side = np.concatenate(list(between), axis=2)  # (frames, height, clips * width, channels)
export_clip(side_by_side, output, nearest_rate(frame_rate(first), output))
print(f"Look at {output}: {args.num_clips} clips, from the first to the second.")
