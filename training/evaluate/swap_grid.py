"""A labelled grid of swaps of held-out clips, as README's first picture: people down the left, motions along the top.

    python training/evaluate/swap_grid.py --model examples/divid-sprites-tiny --dataset data/sprites --seed 2 \
        --output docs/swap.gif

Who and what is drawn by --seed: clips of different people and, along the top, of different actions.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from divid_diffusers import export_clip, load_clip
from divid_diffusers.data.prepared import load_clips
from divid_diffusers.data.sampling import evenly_spaced
from divid_diffusers.evaluation.protocol import load_model
from divid_diffusers.flags import SEED, whole


CELL, LINE = 128, 4  # pixels


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--model", required=True, help="Any checkpoint of this package that was trained on that set.")
    parser.add_argument("--dataset", required=True, help="A folder that training/prepare/*.py wrote, with labels.")
    parser.add_argument("--num_people", type=whole(1), default=3, help="Rows.")
    parser.add_argument("--num_motions", type=whole(1), default=5, help="Columns.")
    parser.add_argument("--num_frames", type=whole(1), default=8, help="Of every clip, evenly spaced.")
    parser.add_argument("--seed", type=SEED, default=0, help="Of the clips and of the noise.")
    parser.add_argument("--output", type=Path, default="outputs/swap_grid.gif")
    return parser.parse_args(argv)


def donors(dataset: str, num_people: int, num_motions: int, num_frames: int, seed: int):
    """
    uint8 clips `(num_people, N, C, H, W)` of different people and `(num_motions, N, C, H, W)` of different actions by
    others.
    """
    clips, people, motions = load_clips(dataset, "test"), {}, {}
    if not {"identity", "action"} <= set(clips.labels):
        raise SystemExit(f"{dataset} has no labels `identity` and `action`, by which rows and columns are chosen.")
    for index in torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed)).tolist():
        clip = clips[index]
        if len(people) < num_people:
            people.setdefault(clip["identity"], clip)
        elif clip["identity"] not in people and len(motions) < num_motions:
            motions.setdefault(clip["action"], clip)
    if len(people) < num_people or len(motions) < num_motions:
        raise SystemExit(
            f"The test clips of {dataset}, drawn with this seed, give {len(people)} people and {len(motions)} actions "
            "of "
            f"others, but {num_people} and {num_motions} were asked for: ask for fewer, or try another --seed."
        )
    return evenly_spaced(people.values(), num_frames), evenly_spaced(motions.values(), num_frames)


def draw_grid(static_donors: torch.Tensor, dynamic_donors: torch.Tensor, swaps: torch.Tensor) -> list[Image.Image]:
    """
    One picture per frame. White lines part what is given from what is made; of a static donor the model sees one
    frame, so that is what is shown.

    Args:
        static_donors, dynamic_donors: `(P, N, C, H, W)` and `(M, N, C, H, W)`, uint8.
        swaps: `(P * M, N, C, H, W)` in [0, 1], all motions of the first person first.
    """
    size = [LINE + CELL * (1 + len(clips)) for clips in (dynamic_donors, static_donors)]
    blank, font = Image.new("RGB", size, "white"), ImageFont.load_default(size=17)
    draw = ImageDraw.Draw(blank)
    draw.text((108, 43), "that motion", "black", font, anchor="rm")
    draw.polygon([(114, 37), (114, 49), (124, 43)], "black")
    draw.text((64, 96), "this person", "black", font, anchor="mm")
    draw.polygon([(58, 112), (70, 112), (64, 122)], "black")

    def place(k: int) -> int:
        return LINE + CELL * (1 + k)

    cells = {(place(column), 0): clip for column, clip in enumerate(dynamic_donors)}
    for row, (donor, made) in enumerate(zip(static_donors, swaps.split(len(dynamic_donors)), strict=True)):
        cells[0, place(row)] = donor[:1].expand_as(donor)
        cells |= {(place(column), place(row)): clip for column, clip in enumerate(made)}
    pictures = [blank.copy() for _ in range(swaps.shape[1])]
    for corner, clip in cells.items():
        for picture, frame in zip(pictures, load_clip(clip), strict=True):
            picture.paste(frame.resize((CELL, CELL), Image.Resampling.NEAREST), corner)
    return pictures


def main(args: argparse.Namespace) -> None:
    static_donors, dynamic_donors = donors(args.dataset, args.num_people, args.num_motions, args.num_frames, args.seed)
    model = load_model("model", args.model, args.seed)
    static = model.encode(static_donors)[0].repeat_interleave(len(dynamic_donors), dim=0)
    dynamic = model.encode(dynamic_donors)[1].repeat(len(static_donors), 1, 1)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    export_clip(draw_grid(static_donors, dynamic_donors, model.decode(static, dynamic)), args.output, fps=7)
    print(f"Look at {args.output}.")


if __name__ == "__main__":
    main(parse_args())
