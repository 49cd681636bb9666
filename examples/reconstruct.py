"""A clip to its tokens and back: `python examples/reconstruct.py [CLIP]`; without a clip, a puppet's."""

import argparse
from pathlib import Path

import torch

from divid_diffusers import DiViDPipeline, export_clip
from divid_diffusers.clips.reading import frame_rate
from divid_diffusers.clips.writing import check_export, nearest_rate
from divid_diffusers.data.puppets import Puppets


parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("clip", nargs="?", help="A video, GIF or folder of frames.")
parser.add_argument("--model", default=str(Path(__file__).parent / "divid-puppets-tiny"))
parser.add_argument("--output", default="outputs/reconstruction.gif")
args = parser.parse_args()
try:
    Path(args.output).expanduser().parent.mkdir(parents=True, exist_ok=True)
    output = check_export(args.output)  # before anything is decoded
except (ValueError, OSError) as error:
    parser.error(str(error))

pipe = DiViDPipeline.from_pretrained(args.model)
clip = args.clip or Puppets(1, split="test")[0]["frames"]
tokens = pipe.encode(clip)
print(f"s: {tuple(tokens.static.shape)}, d: {tuple(tokens.dynamic.shape)}")

# From pure noise: all that is seen comes from the tokens.
decoded = pipe.reconstruct(clip, generator=torch.Generator().manual_seed(0)).frames[0]
export_clip(decoded, output, nearest_rate(frame_rate(clip), output))
print(f"Look at {output}.")
