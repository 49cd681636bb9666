"""Swaps of Sprites by where their donors face.

An action is a move (walk, spellcast, slash) and a direction; the first frame, of which s is made, shows the direction.

    python training/evaluate/sprites_directions.py --model examples/divid-sprites-tiny --dataset data/sprites
"""

import argparse

import numpy as np
import torch
from report import share as in_percent

from divid_diffusers.data.prepared import load_clips
from divid_diffusers.data.sampling import draw_clips, evenly_spaced
from divid_diffusers.evaluation.protocol import load_model
from divid_diffusers.evaluation.swap_test import ordered_pairs, share
from divid_diffusers.flags import SEED, whole
from divid_diffusers.models.judge import ClipJudge


ATTRIBUTES = ("body", "bottom", "top", "hair")
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--judge", default="examples/judge-sprites")
    parser.add_argument("--num_clips", type=whole(1), default=100)
    parser.add_argument("--num_pairs", type=whole(1), default=320)
    parser.add_argument("--num_inference_steps", type=whole(1))
    parser.add_argument("--seed", type=SEED, default=0)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    test = load_clips(args.dataset, "test")
    items = draw_clips(test, args.num_clips, args.seed)
    clips = evenly_spaced(items, 8).float() / 255
    model, judge = (
        load_model("model", args.model, args.seed, args.num_inference_steps),
        ClipJudge.from_pretrained(args.judge).eval(),
    )

    static, dynamic = model.encode(clips)
    pairs = ordered_pairs(len(items), args.num_pairs, args.seed)
    told: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(pairs), BATCH):
        a, b = map(list, zip(*pairs[first : first + BATCH], strict=True))
        for factor, probabilities in judge.predict(model.decode(static[a], dynamic[b])).items():
            told.setdefault(factor, []).append(probabilities.argmax(1).numpy())
    shown = {factor: np.concatenate(parts) for factor, parts in told.items()}

    names = np.array([name.split("_") for name in test.labels["action"]])  # (9, 2): move, direction
    a, b = np.array(pairs).T
    actions = np.array([item["action"] for item in items])
    (move, direction), (_, facing), (wanted, turned) = (
        names[shown["action"]].T,
        names[actions[a]].T,
        names[actions[b]].T,
    )
    identity = np.all([shown[name] == np.array([item[name] for item in items])[a] for name in ATTRIBUTES], axis=0)
    print(f"{len(pairs)} swaps, seed {args.seed}; share of them in %, 95 % interval\n")
    print(
        "| static donor faces | dynamic donor faces | n | four attributes of the static donor | move of the dynamic "
        "donor "
        "| direction of the dynamic donor | of the static donor |\n" + "|---" * 7 + "|"
    )
    groups = [(x, y) for x in ("front", "left", "right") for y in ("front", "left", "right")]
    rows = {"same | same": facing == turned, "other | other": facing != turned}
    rows |= {f"{x} | {y}": (facing == x) & (turned == y) for x, y in groups}
    for name, chosen in rows.items():
        if not chosen.any():
            continue
        columns = (identity, move == wanted, direction == turned, direction == facing)
        print(
            f"| {name} | {chosen.sum()} | "
            + " | ".join(in_percent(share(column[chosen])) for column in columns)
            + " |"
        )


if __name__ == "__main__":
    main()
