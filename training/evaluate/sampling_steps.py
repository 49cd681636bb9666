"""
In how many steps should a checkpoint sample? Its swaps of validation clips, against the true ones where a set can give
them and by a judge elsewhere, decoded in each number of steps.

    python training/evaluate/sampling_steps.py --model examples/divid-puppets-tiny
    python training/evaluate/sampling_steps.py --model examples/divid-mhad-depth-tiny --dataset data/mhad-depth \\
        --judge examples/judge-mhad-depth-3d
"""

import argparse
from collections.abc import Sequence

import evaluate
from ablations import FIGURES

from divid_diffusers.data.puppets import SETS
from divid_diffusers.evaluation.protocol import load_model
from divid_diffusers.flags import whole


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, help="A DiViDPipeline.")
    parser.add_argument("--dataset", default="puppets", help="As of train_divid.py.")
    parser.add_argument("--judge", help="What train_judge.py saved, of a prepared set.")
    parser.add_argument("--steps", type=whole(1), nargs="+", default=[1, 2, 3, 5, 10])
    parser.add_argument("--num_clips", type=whole(2), default=60, help="Clips whose swaps are scored, at most.")
    parser.add_argument("--num_pairs", type=whole(1), default=300, help="Swaps that are scored.")
    args = parser.parse_args(argv)
    if args.dataset not in SETS and not args.judge:
        parser.error("--judge is missing: the swaps of a prepared set are scored by one, see train_judge.py.")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    section = "true_swap" if args.dataset in SETS else "swap"
    options = [
        *("--dataset", args.dataset, "--split", "validation", "--sections", section, "--num_probe_clips", "64"),
        *("--num_clips", str(args.num_clips), "--num_pairs", str(args.num_pairs)),
        *("--out", "."),  # where these sections leave nothing
        *(("--judge", args.judge) if args.judge else ()),
    ]
    try:
        bench = evaluate.open_bench(evaluate.parse_args(options))
        models = {steps: load_model("model", args.model, num_inference_steps=steps) for steps in args.steps}
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(f"{len(bench.pairs)} swaps of {len(bench.items)} validation clips of {args.dataset}\n")
    print(f"| steps | {' | '.join(FIGURES[section])} |\n{'|---' * (len(FIGURES[section]) + 1)}|")
    for steps, model in models.items():
        found = evaluate.SECTIONS[section](model, bench)
        cells = [f"{figure(found):.2f}" for figure in FIGURES[section].values()]
        print(f"| {steps} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
