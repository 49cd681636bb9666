"""A picture of a prepared set: one row per clip, its frames evenly spaced from left to right.

python training/prepare/contact_sheet.py data/sprites --output docs/data_sprites.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from divid_diffusers.data.prepared import load_clips
from divid_diffusers.data.sampling import sample_frame_indices
from divid_diffusers.flags import SEED, whole


def contact_sheet(clips, num_clips: int, num_frames: int, seed: int, scale: int) -> Image.Image:
    chosen = sorted(np.random.RandomState(seed).permutation(len(clips))[:num_clips])
    rows = []
    for index in chosen:
        frames = clips[int(index)]["frames"]
        frames = frames[sample_frame_indices(len(frames), num_frames)]
        rows.append(np.concatenate(frames.permute(0, 2, 3, 1).numpy(), axis=1))
    pixels = np.concatenate(rows)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("dataset", help="A folder that training/prepare/*.py wrote.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--num_clips", type=whole(1), default=8)
    parser.add_argument("--num_frames", type=whole(1), default=8)
    parser.add_argument("--seed", type=SEED, default=0)
    parser.add_argument("--scale", type=whole(1), default=1, help="Enlargement, by whole pixels.")
    args = parser.parse_args()
    try:
        clips = load_clips(args.dataset, args.split)
        contact_sheet(clips, args.num_clips, args.num_frames, args.seed, args.scale).save(args.output, optimize=True)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
