"""
Sliders: the principal directions of a checkpoint's tokens, stored with it, for `pipe.edit` and `divid edit`.

    python training/find_directions.py --model examples/divid-puppets-tiny --dataset puppets
    python training/find_directions.py --model outputs/mine --dataset data/mine --output_dir outputs/mine-with-sliders

Clips are training clips, cut to `--num_frames` evenly spaced frames. The tables say how much of each direction's
variance lies in it, and how much of it each label of the set explains.
"""

import argparse
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from divid_diffusers import DiViDPipeline, TokenDirections
from divid_diffusers.data.puppets import Appearance, Puppets
from divid_diffusers.data.sampling import draw_clips, evenly_spaced
from divid_diffusers.flags import SEED, whole
from divid_diffusers.models.encoder_signature import encoder_signature
from divid_diffusers.models.token_directions import FACTORS
from divid_diffusers.pipelines.saving import add_component
from divid_diffusers.training.directions import explain, principal_directions


BATCH = 32


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, help="A folder or a name on the Hub.")
    parser.add_argument("--dataset", required=True, help="puppets, or a prepared set, or one on the Hub.")
    parser.add_argument(
        "--output_dir", type=Path, help="The checkpoint is saved there; default: they are added to --model's folder."
    )
    parser.add_argument("--num_directions", type=whole(1), default=8, help="Of s and of d each, at most.")
    parser.add_argument("--num_clips", type=whole(10), default=1000, help="Training clips to find them by, at most.")
    parser.add_argument("--num_frames", type=whole(2), default=10, help="Frames of a clip, as in training.")
    parser.add_argument("--seed", type=SEED, default=0, help="Of the choice of clips.")
    args = parser.parse_args(argv)
    if args.output_dir is None and not Path(args.model).expanduser().is_dir():
        parser.error(f"--model {args.model} is no folder to add directions to: give --output_dir.")
    return args


def drawn_clips(dataset: str, count: int, seed: int) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Training clips and their labels, by name: classes as integers `(n,)`, numbers as floats `(n,)` or `(n, p)`."""
    if dataset == "puppets":
        items = draw_clips(Puppets(count, seed), count, seed)
        people = [Appearance.sample(item["identity"]) for item in items]
        labels = {
            each.name.replace("_", " "): np.array([getattr(person, each.name) for person in people])
            for each in fields(Appearance)
        }
        return items, {"action": np.array([item["action"] for item in items])} | labels
    from divid_diffusers.data.prepared import load_clips  # it needs the extra `data`, and Puppets do not

    clips = load_clips(dataset, "train")
    items = draw_clips(clips, count, seed)
    return items, {name: np.array([item[name] for item in items]) for name in clips.labels}


@torch.no_grad()
def tokens_of(pipe: DiViDPipeline, items: list[dict], num_frames: int) -> dict[str, np.ndarray]:
    """By factor a token of each clip: s `(n, S)`, and the mean over time of d_i `(n, D)`."""
    found = {factor: [] for factor in FACTORS}
    for first in range(0, len(items), BATCH):
        clips = evenly_spaced(items[first : first + BATCH], num_frames).float() / 255
        tokens = pipe.encode(clips)
        found["static"].append(tokens.static.float().cpu().numpy())
        found["dynamic"].append(tokens.dynamic.float().mean(1).cpu().numpy())
    return {factor: np.concatenate(parts) for factor, parts in found.items()}


def find_directions(
    pipe: DiViDPipeline, tokens: dict[str, np.ndarray], labels: dict[str, np.ndarray], count: int
) -> TokenDirections:
    """The directions of these tokens, with their tables. Raises ValueError as [`principal_directions`]."""
    rows, variance, explained = {}, {}, {}
    for factor in FACTORS:
        rows[factor], shares = principal_directions(tokens[factor], count)
        names = [f"{factor} {number}" for number in range(1, len(shares) + 1)]
        variance |= {name: round(float(share), 3) for name, share in zip(names, shares)}
        explained |= dict(zip(names, explain(tokens[factor], rows[factor], labels)))
    directions = TokenDirections(
        pipe.encoder.config.static_dim, pipe.encoder.config.dynamic_dim, len(rows["static"]), len(rows["dynamic"]),
        encoder_signature(pipe.encoder), variance, explained,
    )  # fmt: skip
    directions.static.data.copy_(torch.from_numpy(rows["static"]))
    directions.dynamic.data.copy_(torch.from_numpy(rows["dynamic"]))
    return directions


def table(directions: TokenDirections) -> str:
    """Markdown: a row for each direction, the share of variance it holds and what each label explains of it, in %."""
    explained, variance = directions.config.explained, directions.config.variance
    labels = list(dict.fromkeys(label for shares in explained.values() for label in shares))
    lines = [f"| direction | named | variance | {' | '.join(labels)} |", "|---" * (3 + len(labels)) + "|"]
    for name in directions.names:
        cells = [f"{100 * explained[name][label]:.0f}" if label in explained[name] else "" for label in labels]
        named = directions.label(name) or ""
        lines.append(f"| {name} | {named} | {100 * variance[name]:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv=None) -> None:
    args = parse_args(argv)
    try:
        pipe = DiViDPipeline.from_pretrained(args.model)
        pipe.to("cuda" if torch.cuda.is_available() else "cpu")
        items, labels = drawn_clips(args.dataset, args.num_clips, args.seed)
        tokens = tokens_of(pipe, items, args.num_frames)
        directions = find_directions(pipe, tokens, labels, args.num_directions)
        pipe.register_modules(directions=directions)
        if args.output_dir:
            pipe.save_pretrained(args.output_dir)
        else:
            add_component(args.model, "directions", directions)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit("Interrupted: the checkpoint is as it was, without new directions.") from None
    print(f"{len(items)} training clips of {args.dataset}, seed {args.seed}; shares of variance in %\n")
    print(table(directions))
    print(f"\nStored with {args.output_dir or args.model}.")


if __name__ == "__main__":
    main()
