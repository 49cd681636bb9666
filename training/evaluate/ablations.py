"""
What each inductive bias of the paper buys: runs that differ from a config in one of them, several seeds of each,
scored on validation clips; Puppets against the true swaps, a prepared set by its judge.

    python training/evaluate/ablations.py --seeds 3
    python training/evaluate/ablations.py --seeds 3 --dataset data/mhad-depth --judge outputs/judge-mhad-depth
    python training/evaluate/ablations.py --steps 500 -- "--motion_weight 0" "--no-calibrate_tokens"

The last compares other variants, each some flags of train_divid.py. The schedule of the learning rate is that of a run
of this length, so longer runs order the variants for themselves. A stopped command goes on where it was, in the same
--output_dir: finished runs are not run again, and what was measured is not measured again.
"""

import argparse
import hashlib
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import evaluate

from divid_diffusers.data.puppets import SETS
from divid_diffusers.evaluation.protocol import load_model
from divid_diffusers.evaluation.results_file import open_results
from divid_diffusers.evaluation.statistics import mean_interval
from divid_diffusers.flags import whole


TRAINING = Path(__file__).parents[1]
RECIPE = TRAINING / "configs/recipe.yaml"  # of which every config is a change
BASE = "base"
# Our reading of "each inductive bias", one flag or two each: what takes its place when it is taken away.
BIASES = {
    "residual-encoding": "--no-residual",  # d is read from the frames themselves
    "shared-noise": "--no-shared_noise",  # every frame has its own noise
    "two-token-attention": "--no-cross_attention --token_modulation",  # the tokens modulate, nothing attends to them
    "token-modulation": "--no-token_modulation",  # attention alone, the paper's form; `tiny` has both
    "orthogonality": "--orthogonality_weight 0",
    # All training at the highest noise, and one step to decode: how much a token is needed cannot differ with t.
    "time-varying-bottleneck": "--timestep_bias 1e9 --num_inference_steps 1",
    "first-frame-static": "--static_source all",  # s has seen the motion
}
# Of each section of evaluate.py: column, figure.
FIGURES: dict[str, dict[str, Callable[[dict], float]]] = {
    "true_swap": {
        "PSNR, dB": lambda found: found["swaps"]["psnr"][0],
        "motion error": lambda found: found["swaps"]["motion_error"][0],
        "identity kept, %": lambda found: 100 * found["swaps"]["identity_kept"][0],
        "motion kept, %": lambda found: 100 * found["swaps"]["motion_kept"][0],
    },
    "swap": {
        "static, %": lambda found: 100 * found["swaps"]["different in both"]["static"][0],
        "dynamic, %": lambda found: 100 * found["swaps"]["different in both"]["dynamic"][0],
        "both, %": lambda found: 100 * found["swaps"]["different in both"]["joint"][0],
    },
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset", default="puppets", help="As of train_divid.py.")
    parser.add_argument("--judge", help="What train_judge.py saved, of a prepared set.")
    parser.add_argument("--config", type=Path, default=RECIPE, help="The base; default: the recipe.")
    parser.add_argument("--seeds", type=whole(1), default=3, help="Runs of each variant.")
    parser.add_argument("--steps", type=whole(1), default=2000, help="Of each run.")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--num_clips", type=whole(2), default=60, help="Clips whose swaps are scored, at most.")
    parser.add_argument("--num_pairs", type=whole(1), default=300, help="Swaps that are scored.")
    parser.add_argument("--only", nargs="+", choices=BIASES, default=list(BIASES), metavar="BIAS")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/ablations"))
    parser.add_argument(
        "variants",
        nargs="*",
        help="After --: flags of train_divid.py, each variant in quotes, in place of the biases.",
    )
    args = parser.parse_args(argv)
    if args.dataset not in SETS and not args.judge:
        parser.error("--judge is missing: the swaps of a prepared set are scored by one, see train_judge.py.")
    if not args.config.is_file():
        parser.error(f"There is no config file at {args.config}: see training/configs/.")
    return args


def variants_of(args) -> dict[str, str]:
    """Flags by name, the base first."""
    of_biases = {name: BIASES[name] for name in args.only}
    given = {re.sub(r"[^\w.]+", "-", flags).strip("-"): flags for flags in args.variants if flags}
    return {BASE: ""} | (given or of_biases)


def train(flags: str, seed: int, folder: Path, args) -> None:
    """Unless `folder` already holds the finished pipeline."""
    if (folder / "model_index.json").exists():
        return
    run = [
        *("--config", str(args.config), "--dataset", args.dataset, "--max_train_steps", str(args.steps)),
        *(
            "--seed",
            str(seed),
            "--from_scratch",
            "--validation_steps",
            "0",
            "--report_to",
            "none",
            *shlex.split(flags),
        ),
        *("--output_dir", str(folder), "--resume_from_checkpoint", "latest"),
    ]
    subprocess.run([sys.executable, str(TRAINING / "train_divid.py"), *run], check=True)


def measure(models: Mapping[str, Path], section: str, folder: Path, args) -> dict[str, dict]:
    """What that section of evaluate.py finds, by model; kept in `folder`, so that nothing is measured twice."""
    options = evaluate.parse_args(
        [
            *("--dataset", args.dataset, "--split", args.split, "--sections", section, "--out", str(folder)),
            *("--num_clips", str(args.num_clips), "--num_pairs", str(args.num_pairs), "--num_probe_clips", "64"),
            *(("--judge", args.judge) if args.judge else ()),
        ]
    )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        bench = evaluate.open_bench(options)
        results = open_results(folder / "results.json", evaluate.settings(options, bench), evaluate.environment())
        for name, path in models.items():
            evaluate.measure(name, load_model(name, str(path)), bench, results, options)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    found = {name: results["models"][name]["sections"][section] for name in models}
    for each in found.values():
        if "left_out" in each:
            raise SystemExit(f"Nothing was measured: {each['left_out']}")
    return {name: each["result"] for name, each in found.items()}


def table(found: Mapping[str, Sequence[dict]], figures: Mapping[str, Callable[[dict], float]]) -> str:
    """
    A row for each variant, whose results are given seed by seed: mean and 95 % interval over seeds and, in brackets,
    those of the difference to the base of the same seed.
    """
    lines = [f"| without | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|"]
    for name, results in found.items():
        cells = []
        for figure in figures.values():
            values = [figure(each) for each in results]
            less_base = [value - figure(base) for value, base in zip(values, found[BASE])]
            cells.append(in_words(values) + ("" if name == BASE else f" ({in_words(less_base, sign='+')})"))
        lines.append(f"| {'nothing' if name == BASE else name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def in_words(values: Sequence[float], sign: str = "") -> str:
    mean, half = mean_interval(values)
    return f"{mean:{sign}.2f}" + (f" ± {half:.2f}" if math.isfinite(half) else "")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    variants = variants_of(args)
    section = "true_swap" if args.dataset in SETS else "swap"
    # Runs of another config or length are others.
    config = hashlib.sha256(RECIPE.read_bytes() + args.config.read_bytes()).hexdigest()[:8]
    root = args.output_dir / f"{Path(args.dataset).name}-{args.config.stem}-{config}-{args.steps}"
    for seed in range(args.seeds):
        for name, flags in variants.items():
            train(flags, seed, root / f"{name}-{seed}", args)
        models = {f"{name}-{each}": root / f"{name}-{each}" for each in range(seed + 1) for name in variants}
        results = measure(models, section, root / args.split, args)
        found = {name: [results[f"{name}-{each}"] for each in range(seed + 1)] for name in variants}
        print(f"\n{args.steps} steps, {seed + 1} of {args.seeds} seeds, {args.split} clips of {args.dataset}\n")
        print(table(found, FIGURES[section]), flush=True)


if __name__ == "__main__":
    main()
