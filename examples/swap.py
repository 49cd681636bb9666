"""Swap identity and motion between held-out Puppets with the embedded model: writes a picture and a GIF, prints scores.

python examples/swap.py --output_dir outputs
"""

import argparse
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from divid_diffusers import DiViDPipeline
from divid_diffusers.data.puppets import MOTIONS, Puppets
from divid_diffusers.evaluation.puppet_swap import score_swaps


CHECKPOINT = Path(__file__).parent / "divid-puppets-tiny"
CELL, MARGIN = 128, 20  # pixels


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default=str(CHECKPOINT), help="A checkpoint trained on Puppets: a folder or a Hub name."
    )
    parser.add_argument("--output_dir", default="outputs", help="Where swap.png and swap.gif go.")
    parser.add_argument("--num_people", type=int, default=4, help="Rows.")
    parser.add_argument("--num_motions", type=int, default=5, help="Columns.")
    parser.add_argument("--seed", type=int, default=0, help="Of the clips and of the noise.")
    return parser.parse_args()


def pick_donors(args) -> tuple[list[dict], list[dict]]:
    """Clips the model has not seen: people to be, and clips of other people with different motions to perform."""
    clips = Puppets(200, seed=args.seed, split="test")
    people = [clips[i] for i in range(args.num_people)]
    by_motion = {clips[i]["action"]: clips[i] for i in range(199, args.num_people, -1)}
    order = [MOTIONS.index(name) for name in ("jumping_jack", "kick", "bow", "lunge", "wave")]
    order += [action for action in range(len(MOTIONS)) if action not in order]
    return people, [by_motion[action] for action in order[: args.num_motions]]


def draw_grid(people: list[dict], motions: list[dict], swaps: torch.Tensor, frame: int) -> Image.Image:
    """Identity rows, motion columns; the donors' own clips along the left and the top."""
    rows, columns = len(people), len(motions)
    grid = Image.new("RGB", (MARGIN + (columns + 1) * CELL, MARGIN + (rows + 1) * CELL), "white")
    draw = ImageDraw.Draw(grid)

    def paste(picture: torch.Tensor, row: int, column: int) -> None:
        array = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
        cell = Image.fromarray(array).resize((CELL - 4, CELL - 4), Image.Resampling.NEAREST)
        grid.paste(cell, (MARGIN + column * CELL + 2, MARGIN + row * CELL + 2))

    for row, person in enumerate(people):
        paste(person["frames"][0] / 255, row + 1, 0)
    for column, motion in enumerate(motions):
        paste(motion["frames"][frame] / 255, 0, column + 1)
        draw.text((MARGIN + (column + 1) * CELL + 4, 4), f"motion: {MOTIONS[motion['action']]}", fill="black")
    for index, swap in enumerate(swaps):
        paste(swap[frame], index // columns + 1, index % columns + 1)
    draw.text((MARGIN + 8, MARGIN + CELL // 2 - 16), "motion of  >\n\nidentity of  v", fill="black")
    draw.line([(MARGIN + CELL, MARGIN), (MARGIN + CELL, grid.height)], fill="black", width=2)
    draw.line([(MARGIN, MARGIN + CELL), (grid.width, MARGIN + CELL)], fill="black", width=2)
    return grid


def main() -> None:
    args = parse_args()
    start = time.perf_counter()
    pipe = DiViDPipeline.from_pretrained(args.model)
    people, motions = pick_donors(args)
    pairs = [(person, motion) for person in people for motion in motions]

    tokens_of_people = pipe.encode([person["frames"] for person in people])
    tokens_of_motions = pipe.encode([motion["frames"] for motion in motions])
    static = tokens_of_people.static.repeat_interleave(len(motions), dim=0)
    dynamic = tokens_of_motions.dynamic.repeat(len(people), 1, 1)
    generator = torch.Generator().manual_seed(args.seed)
    decoding = time.perf_counter()
    swaps = pipe(static, dynamic, generator=generator, output_type="pt").frames.cpu()
    decoding = time.perf_counter() - decoding

    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    frames = [draw_grid(people, motions, swaps, frame) for frame in range(swaps.shape[1])]
    frames[4].save(output_dir / "swap.png")
    frames[0].save(output_dir / "swap.gif", save_all=True, append_images=frames[1:], duration=150, loop=0)

    scores = score_swaps(swaps, *map(list, zip(*pairs)))
    print(f"{scores.num_swaps} swaps of held-out clips, against the true clip as the renderer draws it:")
    print(
        f"  identity kept  {scores.identity_kept:.0%}   (nearer to the true person than to any other of the {len(people)})"
    )
    print(
        f"  motion kept    {scores.motion_kept:.0%}   (nearer to the true motion than to any other of the {len(MOTIONS)})"
    )
    print(f"  PSNR           {scores.psnr:.1f} dB")
    print(f"  motion error   {scores.motion_error:.2f}   (0 perfect, 1 motionless)")
    print(
        f"Decoded {swaps.shape[0]} x {swaps.shape[1]} frames in {decoding:.1f} s; all in {time.perf_counter() - start:.1f} s."
    )
    print(f"Look at {output_dir / 'swap.gif'} and {output_dir / 'swap.png'}.")


if __name__ == "__main__":
    main()
