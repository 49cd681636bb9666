"""Two models on the same swaps: by how much is one ahead, and does it stay ahead with other people?

    python training/evaluate/paired_swaps.py \\
        --models DiViD=examples/divid-sprites-tiny DBSE=examples/baselines/dbse-sprites-tiny \\
        --dataset data/sprites --judge examples/judge-sprites --num_pairs 2000

The intervals of `evaluate.py` take pairs as independent; these are over people (`pigeonhole_interval`).
"""

import argparse
import math

import numpy as np
import torch

from divid_diffusers.data.prepared import load_clips
from divid_diffusers.data.sampling import draw_clips, evenly_spaced
from divid_diffusers.evaluation.protocol import load_model
from divid_diffusers.evaluation.statistics import pigeonhole_interval
from divid_diffusers.evaluation.swap_test import ordered_pairs
from divid_diffusers.flags import SEED, whole
from divid_diffusers.models.judge import ClipJudge


BATCH = 32


def joint(model, judge: ClipJudge, items: list[dict], pairs: np.ndarray, dynamic_factors: list[str]) -> np.ndarray:
    """Which swaps show all static labels of the one donor and all dynamic labels of the other, `(P,)`."""
    clips = evenly_spaced(items, judge.config.num_frames).float() / 255
    static, dynamic = (torch.cat(part) for part in zip(*map(model.encode, clips.split(BATCH)), strict=True))
    right = []
    for a, b in (batch.T for batch in np.array_split(pairs, -(-len(pairs) // BATCH))):
        shown = judge.predict(model.decode(static[a], dynamic[b]))
        donors = {factor: b if factor in dynamic_factors else a for factor in shown}
        wanted = {factor: torch.tensor([items[i][factor] for i in rows]) for factor, rows in donors.items()}
        right.append(torch.stack([shown[factor].argmax(1) == wanted[factor] for factor in shown]).all(0))
    return torch.cat(right).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--models", nargs=2, required=True, metavar="NAME=PATH")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--judge", required=True)
    parser.add_argument("--dynamic_factors", nargs="+", default=["action"])
    parser.add_argument("--num_pairs", type=whole(1), default=1000)
    parser.add_argument("--num_inference_steps", type=whole(1))
    parser.add_argument("--seed", type=SEED, default=0)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    test, judge = load_clips(args.dataset, "test"), ClipJudge.from_pretrained(args.judge).eval()
    items = draw_clips(test, len(test), args.seed)
    if len(items) < 2 or len({item.get("identity") for item in items}) < 2:
        parser.error(
            f"{args.dataset} has {len(items)} test clips, of one identity or none: there are no people to draw."
        )
    pairs = np.array(ordered_pairs(len(items), args.num_pairs, args.seed))
    models = {
        name: load_model(name, path, args.seed, args.num_inference_steps)
        for name, _, path in (model.partition("=") for model in args.models)
    }
    if len(models) < 2:
        parser.error("--models takes two different names, NAME=PATH.")

    first, second = (joint(model, judge, items, pairs, args.dynamic_factors) for model in models.values())
    people = np.array([item["identity"] for item in items])[pairs]
    print(f"{len(pairs)} swaps of {len(items)} clips of {len(np.unique(people))} people, seed {args.seed}; joint, %\n")
    print("| | share | 95 % interval over people |\n|---|---|---|")
    rows = dict(zip(models, (first, second), strict=True)) | {" - ".join(models): first.astype(float) - second}
    for name, values in rows.items():
        mean, low, high = (100 * value for value in pigeonhole_interval(values, people, seed=args.seed))
        interval = f"{low:.1f} to {high:.1f}" if math.isfinite(high) else "too few people to tell"
        print(f"| {name} | {mean:.1f} | {interval} |")


if __name__ == "__main__":
    main()
