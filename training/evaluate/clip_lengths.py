"""
Clips longer than those a model was trained on: motion error and PSNR of reconstructions against length, of Puppets.

    python training/evaluate/clip_lengths.py --model examples/divid-puppets-tiny

Tokens are read from the whole clip and, beside it, in windows of `--window` frames: the first frame of the clip and
neighbours, half of which the next window reads again. Frames are decoded on their own, so of a long clip only
`--shown` evenly spaced ones are decoded and compared.
"""

import argparse

import torch

from divid_diffusers import DiViDPipeline
from divid_diffusers.data.puppets import Puppets
from divid_diffusers.data.sampling import sample_frame_indices
from divid_diffusers.evaluation.reconstruction import motion_error, psnr
from divid_diffusers.evaluation.statistics import mean_interval
from divid_diffusers.flags import SEED, whole


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, help="A checkpoint that was trained on Puppets.")
    parser.add_argument("--lengths", type=whole(2), nargs="+", default=[10, 30, 100, 300], help="Frames of a clip.")
    parser.add_argument("--window", type=whole(3), default=10, help="Frames of a window, the first included.")
    parser.add_argument("--shown", type=whole(2), default=30, help="Frames of a clip that are decoded, at most.")
    parser.add_argument("--num_clips", type=whole(2), default=8)
    parser.add_argument("--num_inference_steps", type=whole(1))
    parser.add_argument("--seed", type=SEED, default=0, help="Of the clips and of the noise.")
    return parser.parse_args(argv)


def in_windows(encoder, embeddings: torch.Tensor, window: int) -> torch.Tensor:
    """
    Dynamic tokens `(B, N, D)` of embeddings `(B, N, E)`, each window read for itself; where windows overlap, their
    mean, weighted by the distance to a window's nearer end (our choice).
    """
    length, body = embeddings.shape[1], window - 1
    if length <= window:
        return encoder.encode_dynamic(embeddings)
    starts = [*range(1, length - body, max(1, body // 2)), length - body]
    ramp = torch.minimum(torch.arange(1, body + 1), torch.arange(body, 0, -1)).to(embeddings)[:, None]
    first, total = None, 0
    weights = embeddings.new_zeros(length, 1)
    for start in starts:
        part = torch.cat([embeddings[:, :1], embeddings[:, start : start + body]], dim=1)
        tokens = encoder.encode_dynamic(part)
        first = tokens[:, :1] if first is None else first
        placed = tokens.new_zeros(len(tokens), length, tokens.shape[2])
        placed[:, start : start + body] = tokens[:, 1:] * ramp
        total = total + placed
        weights[start : start + body] += ramp
    return torch.cat([first, total[:, 1:] / weights[1:]], dim=1)


@torch.no_grad()
def scores(pipe: DiViDPipeline, clips: torch.Tensor, args: argparse.Namespace) -> dict[str, tuple]:
    """By way of reading d, (motion error, PSNR) `(B,)` each, of clips `(B, N, C, H, W)` in [0, 1]."""
    chosen = sample_frame_indices(clips.shape[1], min(clips.shape[1], args.shown))
    frames = pipe.prepare_frames(clips)
    embeddings = torch.stack([pipe.encoder.encode_frames(clip[None])[0] for clip in frames])
    static = pipe.encoder.encode_static(embeddings[:, 0])
    reference = torch.stack([clip[0] for clip in frames]) if pipe.unet.config.reference_frame else None
    read = {
        "whole": pipe.encoder.encode_dynamic(embeddings),
        "windows": in_windows(pipe.encoder, embeddings, args.window),
    }
    found = {}
    for name, dynamic in read.items():
        generator = torch.Generator().manual_seed(args.seed)
        decoded = pipe(
            static, dynamic[:, chosen], reference=reference, generator=generator, output_type="pt",
            num_inference_steps=args.num_inference_steps,
        ).frames.float().cpu()  # fmt: skip
        truth = clips[:, chosen]
        found[name] = motion_error(truth, decoded), psnr(truth, decoded)
    return found


def main(argv=None) -> None:
    args = parse_args(argv)
    try:
        pipe = DiViDPipeline.from_pretrained(args.model)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")
    pipe.set_progress_bar_config(disable=True)
    print(f"{args.num_clips} held-out puppets, seed {args.seed}, 95 % intervals; windows of {args.window} frames\n")
    print("| frames | motion error | in windows | PSNR, dB | in windows |\n" + "|---" * 5 + "|")
    for length in args.lengths:
        puppets = Puppets(args.num_clips, args.seed, num_frames=length, split="test")
        clips = torch.stack([puppets[index]["frames"] for index in range(args.num_clips)]).float() / 255
        (error, decibels), (windowed_error, windowed_decibels) = scores(pipe, clips, args).values()
        cells = [(error, 2), (windowed_error, 2), (decibels, 1), (windowed_decibels, 1)]
        told = (mean_interval(values.tolist()) for values, _ in cells)
        row = [f"{mean:.{digits}f} ± {half:.{digits}f}" for (mean, half), (_, digits) in zip(told, cells)]
        print(f"| {length} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
