"""Reconstruct and swap the held-out clips of UTD-MHAD depth: figures with their intervals, and pictures.

python training/evaluate.py --model examples/divid-mhad-depth-tiny --dataset data/mhad-depth --output_dir docs
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import torch
from clips import evenly_spaced
from PIL import Image

from divid_diffusers import DiViDPipeline
from divid_diffusers.data.prepared import load_clips
from divid_diffusers.evaluation.linear_judge import LinearJudge
from divid_diffusers.evaluation.reconstruction import motion_error, psnr
from divid_diffusers.evaluation.statistics import mean_interval, wilson_interval


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True, help="The depth clips, prepared by prepare_mhad.py.")
    parser.add_argument("--output_dir", default="outputs/evaluation")
    parser.add_argument(
        "--num_pairs", type=int, default=206, help="Swaps: ordered pairs of held-out clips, drawn with --seed."
    )
    parser.add_argument("--num_frames", type=int, default=10)
    parser.add_argument("--num_inference_steps", type=int, help="Default: the checkpoint's own.")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def draw_pairs(clips, count: int, seed: int) -> list[tuple[int, int]]:
    """Ordered pairs (static donor, dynamic donor) that differ in identity and in action."""
    generator = torch.Generator().manual_seed(seed)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < count:
        a, b = torch.randint(len(clips), (2,), generator=generator).tolist()
        differ = clips[a]["identity"] != clips[b]["identity"] and clips[a]["action"] != clips[b]["action"]
        if differ and (a, b) not in pairs:
            pairs.append((a, b))
    return pairs


def judged(judge: LinearJudge, clips: torch.Tensor, identities: list[int], actions: list[int]) -> dict:
    """Accuracies, each as [share, low, high]."""
    told_identity, told_action = judge.predict(clips)
    right_identity = [told == true for told, true in zip(told_identity, identities)]
    right_action = [told == true for told, true in zip(told_action, actions)]
    both = [i and a for i, a in zip(right_identity, right_action)]

    def share(right: list[bool]) -> list[float]:
        return [sum(right) / len(right), *wilson_interval(sum(right), len(right))]

    return {"n": len(clips), "identity": share(right_identity), "action": share(right_action), "both": share(both)}


def picture(rows: list[torch.Tensor], path: Path) -> None:
    """Rows of clips, one above the other, frames from left to right, twice enlarged."""
    image = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)
    array = (image * 255).round().byte().permute(1, 2, 0).squeeze(-1).numpy()
    image = Image.fromarray(array)
    image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(path)


def animation(columns: list[list[torch.Tensor]], path: Path) -> None:
    """A grid of clips that play at once."""
    grid = torch.cat([torch.cat(row, dim=-1) for row in columns], dim=-2)
    frames = [Image.fromarray((frame[0] * 255).round().byte().numpy()) for frame in grid]
    frames = [frame.resize((frame.width * 2, frame.height * 2), Image.Resampling.NEAREST) for frame in frames]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=150, loop=0)


def main() -> None:
    args = parse_args()
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    pipe = DiViDPipeline.from_pretrained(args.model)
    train, test = load_clips(args.dataset, "train"), load_clips(args.dataset, "test")
    clips = evenly_spaced(test, args.num_frames) / 255
    identities, actions = [clip["identity"] for clip in test], [clip["action"] for clip in test]
    judge = LinearJudge(
        evenly_spaced(train, args.num_frames) / 255,
        [clip["identity"] for clip in train],
        [clip["action"] for clip in train],
    )

    tokens = pipe.encode(clips)
    static, dynamic = tokens.static.detach(), tokens.dynamic.detach()

    def decode(static, dynamic):
        generator = torch.Generator().manual_seed(args.seed)
        steps = args.num_inference_steps
        return pipe(static, dynamic, num_inference_steps=steps, generator=generator, output_type="pt").frames.cpu()

    start = time.perf_counter()
    reconstructed = decode(static, dynamic)
    seconds = (time.perf_counter() - start) / len(clips)
    pairs = draw_pairs(test, args.num_pairs, args.seed)
    a, b = map(list, zip(*pairs))
    swapped = decode(static[a], dynamic[b])

    results = {
        "model": Path(args.model).name,
        "seed": args.seed,
        "steps": args.num_inference_steps or pipe.config.num_inference_steps,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "seconds_per_clip": seconds,
        "psnr": mean_interval(psnr(clips, reconstructed).tolist()),
        "motion_error": mean_interval(motion_error(clips, reconstructed).tolist()),
        "judge on real clips": judged(judge, clips, identities, actions),
        "judge on reconstructions": judged(judge, reconstructed, identities, actions),
        "judge on swaps": judged(judge, swapped, [identities[i] for i in a], [actions[i] for i in b]),
    }
    (output_dir / "mhad_depth.json").write_text(json.dumps(results, indent=2) + "\n")

    print(
        f"{len(clips)} held-out clips, {args.num_frames} frames, {results['steps']} steps from pure noise, seed {args.seed}:"
    )
    for name, unit in (("psnr", " dB"), ("motion_error", "")):
        mean, half = results[name]
        print(f"  {name:13} {mean:.2f}{unit} +- {half:.2f}")
    print("\n| linear judge on | n | identity | action | both |\n|---|---|---|---|---|")
    for name in ("real clips", "reconstructions", "swaps"):
        row = results[f"judge on {name}"]
        cells = [
            f"{100 * s:.1f} % [{100 * lo:.1f}, {100 * hi:.1f}]"
            for s, lo, hi in (row["identity"], row["action"], row["both"])
        ]
        print(f"| {name} | {row['n']} | " + " | ".join(cells) + " |")

    shown = pairs[:5]
    picture(
        [row for i in range(0, 100, 17) for row in (clips[i], reconstructed[i])],
        output_dir / "mhad_reconstructions.png",
    )
    picture(
        [row for k, (i, j) in enumerate(shown) for row in (clips[i], clips[j], swapped[k])],
        output_dir / "mhad_swaps.png",
    )
    people, motions = [i for i, _ in shown[:4]], [j for _, j in shown]
    cells = decode(static[people].repeat_interleave(len(motions), 0), dynamic[motions].repeat(len(people), 1, 1))
    corner = torch.ones_like(clips[0])
    grid = [[corner, *(clips[j] for j in motions)]]
    for row, person in enumerate(people):
        still = clips[person][:1].expand_as(clips[person])
        grid.append([still, *cells[row * len(motions) : (row + 1) * len(motions)]])
    animation(grid, output_dir / "mhad_swap.gif")


if __name__ == "__main__":
    main()
