"""What sliders do: a row for each direction of a checkpoint, from far on one side of a held-out clip to the other.

    python training/evaluate/slider_rows.py --model examples/divid-sprites-tiny --dataset data/sprites \
        --directions "static 1" "static 2" "dynamic 1" --output docs/sliders.png

One frame is shown of each edited clip. The middle column, of no edit, is the reconstruction.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from divid_diffusers import DiViDPipeline, load_clip
from divid_diffusers.clips.writing import written_whole
from divid_diffusers.data.puppets import Puppets
from divid_diffusers.data.sampling import draw_clips, evenly_spaced
from divid_diffusers.flags import SEED, whole


CELL, NAMES, HEAD = 96, 160, 24  # pixels: a cell, the column of names, the line of amounts
COLOURS = 256


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--model", required=True, help="A checkpoint with directions (find_directions.py).")
    parser.add_argument("--dataset", required=True, help="puppets, or a prepared set, or one on the Hub.")
    parser.add_argument("--directions", nargs="+", help="Rows; default: the first three of s and of d.")
    parser.add_argument("--amounts", type=float, nargs="+", default=[-2, -1, 0, 1, 2], help="Columns.")
    parser.add_argument("--num_frames", type=whole(1), default=8, help="Of the clip, evenly spaced.")
    parser.add_argument("--frame", type=whole(0), default=4, help="Which of these is shown.")
    parser.add_argument("--seed", type=SEED, default=0, help="Of the clip and of the noise.")
    parser.add_argument("--output", type=Path, default="outputs/sliders.png")
    args = parser.parse_args(argv)
    if args.frame >= args.num_frames:
        parser.error(f"--frame {args.frame} is not among {args.num_frames} frames, which are counted from 0.")
    return args


def held_out_clip(dataset: str, num_frames: int, seed: int) -> torch.Tensor:
    """A test clip, uint8 `(N, C, H, W)`."""
    if dataset == "puppets":
        return evenly_spaced(draw_clips(Puppets(100, split="test"), 1, seed), num_frames)[0]
    from divid_diffusers.data.prepared import load_clips  # it needs the extra `data`, and Puppets do not

    return evenly_spaced(draw_clips(load_clips(dataset, "test"), 1, seed), num_frames)[0]


def draw_rows(rows: dict[str, torch.Tensor], amounts: list[float]) -> Image.Image:
    """A picture of rows `(columns, C, H, W)` in [0, 1], by what stands before them, under the amounts."""
    picture = Image.new("RGB", (NAMES + CELL * len(amounts), HEAD + CELL * len(rows)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=15)
    for column, amount in enumerate(amounts):
        draw.text((NAMES + CELL * (column + 0.5), HEAD / 2), f"{amount:+g}" if amount else "0", "black", font, "mm")
    for number, (name, frames) in enumerate(rows.items()):
        draw.text((NAMES - 8, HEAD + CELL * (number + 0.5)), name, "black", font, "rm", align="right")
        for column, frame in enumerate(load_clip(frames)):
            cell = frame.convert("RGB").resize((CELL, CELL), Image.Resampling.NEAREST)
            picture.paste(cell, (NAMES + CELL * column, HEAD + CELL * number))
    return picture


def main(argv=None) -> None:
    args = parse_args(argv)
    try:
        pipe, clip = DiViDPipeline.from_pretrained(args.model), held_out_clip(args.dataset, args.num_frames, args.seed)
        pipe.set_progress_bar_config(disable=True)
        known = pipe.directions.names if pipe.directions else []
        first = [name for name in known if int(name.split()[1]) <= 3]
        rows = {}
        for name in args.directions or first or ["static 1"]:
            edited = [
                pipe.edit(clip, {name: amount}, output_type="pt", generator=torch.Generator().manual_seed(args.seed))
                for amount in args.amounts
            ]
            label = pipe.directions.label(name)
            frames = torch.stack([each.frames[0, args.frame] for each in edited]).float().cpu()
            rows[f"{name}\n{label}" if label else name] = frames
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(args.output) as partial:
        draw_rows(rows, args.amounts).quantize(COLOURS).save(partial, optimize=True)
    print(f"Look at {args.output}: {len(rows)} directions, {len(args.amounts)} amounts.")


if __name__ == "__main__":
    main()
