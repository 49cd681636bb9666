"""Make a picture move like a clip: `python examples/animate.py [PICTURE CLIP]`, without them with puppets."""

import argparse
from pathlib import Path

import torch
from PIL import Image

from divid_diffusers import DiViDPipeline, export_clip
from divid_diffusers.clips.reading import frame_rate
from divid_diffusers.clips.writing import check_export, nearest_rate
from divid_diffusers.data.puppets import MOTIONS, Puppets


parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("picture", nargs="?", help="A picture of who shall move.")
parser.add_argument("clip", nargs="?", help="A video, GIF or folder of frames whose motion is taken.")
parser.add_argument("--model", default=str(Path(__file__).parent / "divid-puppets-tiny"))
parser.add_argument("--output", default="outputs/animation.gif")
args = parser.parse_args()
if args.picture and not args.clip:
    parser.error("A picture needs a clip that says how it shall move.")
try:
    Path(args.output).expanduser().parent.mkdir(parents=True, exist_ok=True)
    output = check_export(args.output)  # before anything is decoded
except (ValueError, OSError) as error:
    parser.error(str(error))

pipe = DiViDPipeline.from_pretrained(args.model)
puppets = Puppets(30, split="test")
picture, driving = args.picture, args.clip
if not picture:
    picture = Image.fromarray(puppets[0]["frames"][0].permute(1, 2, 0).numpy())
    driving = next(clip for clip in puppets if clip["action"] == MOTIONS.index("jumping_jack"))["frames"]
animated = pipe.animate(picture, driving, generator=torch.Generator().manual_seed(0)).frames[0]

export_clip(animated, output, nearest_rate(frame_rate(driving), output))
print(f"Look at {output}.")
