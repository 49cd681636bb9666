"""
Measure models side by side on held-out clips: everything in `sections.py`, to JSON, tables, plots and pictures.
Whatever is chosen is chosen with `--split validation`; test clips are for the figures that are told.

    python training/evaluate/evaluate.py --models DiViD=examples/divid-mhad-depth-tiny DBSE=outputs/dbse \\
        --dataset data/mhad-depth --judge examples/judge-mhad-depth --out results/mhad-depth

Whatever is measured is kept at once in `results.json`; a stopped run, or one with more models or sections, goes on
from there. `report.py` makes the tables and plots from that file alone.
"""

import argparse
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from report import write_report
from sections import OF_FLOORS, SECTIONS, Bench, NotMeasured
from swap_figure import draw_swap_figure

from divid_diffusers.data.held_out import PUPPETS_SEED
from divid_diffusers.data.prepared import load_clips, load_training_clips
from divid_diffusers.data.puppets import SETS, Puppets
from divid_diffusers.data.sampling import draw_clips, evenly_spaced
from divid_diffusers.evaluation.floors import Floor, floors
from divid_diffusers.evaluation.label_free import IDENTITY_MODEL, MOTION_MODEL, PretrainedFeatures
from divid_diffusers.evaluation.protocol import PipelineDisentangler, load_model
from divid_diffusers.evaluation.results_file import fingerprint, open_results, save_results
from divid_diffusers.evaluation.swap_test import ordered_pairs
from divid_diffusers.evaluation.true_swap import SkeletonTruth, SpritesTruth, true_clips
from divid_diffusers.flags import SEED, whole
from divid_diffusers.models.judge import ClipJudge


# Floors that show nothing but a donor, whose row is in the figure anyway.
DRAWN_AS_DONORS = ("static frame held", "copy of the static donor", "copy of the dynamic donor")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--models", nargs="*", default=[], metavar="NAME=PATH", help="Folders or Hub names. None: floors only."
    )
    parser.add_argument(
        "--tokens_alone",
        nargs="+",
        default=[],
        metavar="NAME",
        help="Those of --models that decode from s and d without seeing the static frame, as in the paper.",
    )
    parser.add_argument(
        "--dataset", required=True, help="puppets, or a set that training/prepare/*.py wrote, or one on the Hub."
    )
    parser.add_argument(
        "--split", choices=["validation", "test"], default="test", help="Which clips: to choose by, or to tell."
    )
    parser.add_argument(
        "--judge",
        nargs="+",
        default=[],
        metavar="JUDGE",
        help="What train_judge.py saved: the first names everything, the others are asked for swaps too. Without one "
        "nothing is named, only compared.",
    )
    parser.add_argument("--out", type=Path, required=True, help="Folder of results.json and of all that is drawn.")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--dynamic_factors", nargs="+", default=["action"], help="Labels that are motion.")
    parser.add_argument("--num_clips", type=whole(0), default=0, help="Held-out clips, drawn with --seed; 0: all.")
    parser.add_argument("--num_pairs", type=whole(0), default=1000, help="Ordered pairs, drawn with --seed; 0: all.")
    parser.add_argument(
        "--num_probe_clips", type=whole(1), default=1500, help="Training clips for the leakage probes."
    )
    parser.add_argument("--num_frames", type=whole(2), help="Frames per clip. Default: the judge's, or 10.")
    parser.add_argument("--num_inference_steps", type=whole(1), help="Default: each checkpoint's own.")
    parser.add_argument("--skeletons", help="Skeleton.zip of UTD-MHAD, for the true swaps of that set.")
    parser.add_argument("--identity_model", help="Image model for label-free scores: a Hub name or a folder.")
    parser.add_argument("--motion_model", help="Video model for label-free scores: a Hub name or a folder.")
    parser.add_argument("--seed", type=SEED, default=0)
    args = parser.parse_args(argv)
    pairs = [model.partition("=") for model in args.models]
    named = all(re.fullmatch(r"\w[\w.-]*", name) and path for name, _, path in pairs)  # names become those of files
    if not named or len({name for name, _, _ in pairs}) < len(pairs):
        parser.error(
            "--models takes NAME=PATH, every name once and of letters and digits, such as DiViD=outputs/divid."
        )
    args.models = {name: path for name, _, path in pairs}
    if unknown := set(args.tokens_alone) - set(args.models):
        parser.error(f"--tokens_alone {' '.join(sorted(unknown))}: there is no such name among --models.")
    return args


def open_sets(args):
    if args.dataset in SETS:
        options = SETS[args.dataset]
        held_out = options | ({"split": "test"} if args.split == "test" else {"seed": PUPPETS_SEED})
        return Puppets(args.num_probe_clips, **options), Puppets(args.num_clips or 200, **held_out)
    if args.split == "test":
        return load_clips(args.dataset, "train"), load_clips(args.dataset, "test")
    train, validation, sentence = load_training_clips(args.dataset)
    if validation is train:
        raise ValueError(f"--split validation: {sentence}")
    return train, validation


def open_bench(args) -> Bench:
    """
    Raises ValueError, in a sentence, for whatever would make the figures meaningless; ImportError for what is missing.
    """
    if missing := [name for name in ("matplotlib", "sklearn") if find_spec(name) is None]:
        raise ImportError(f"Evaluation needs {' and '.join(missing)}: pip install 'divid_diffusers[data,eval]'.")
    judges = {Path(path).name: ClipJudge.from_pretrained(path).eval() for path in args.judge}
    if len(judges) < len(args.judge):
        raise ValueError("Two of the judges are in folders of one name: rename one, since tables name them so.")
    judge = next(iter(judges.values()), None)
    train, test = open_sets(args)
    num_frames = args.num_frames or (judge.config.num_frames if judge else 10)
    labels = judge.config.factors if judge else getattr(test, "labels", {})
    items = draw_clips(test, args.num_clips or len(test), args.seed)
    clips = evenly_spaced(items, num_frames).float() / 255
    static = [name for name in labels if name not in args.dynamic_factors]
    dynamic = [name for name in labels if name in args.dynamic_factors]
    if clips.shape[2] == 3 and (clips == clips[:, :, :1]).all():  # grey, in colour as own clips are
        judges = {name: each.in_colour() if each.config.in_channels == 1 else each for name, each in judges.items()}
        judge = next(iter(judges.values()), None)
    for each in judges.values():
        refuse_judge(each, labels, getattr(test, "labels", {}), args.dataset)
        if not all(told.isfinite().all() for told in each.predict(clips[:1]).values()):
            raise ValueError("The judge gives NaN or infinity: was its training broken?")
    if judge is not None and not (static and dynamic):
        raise ValueError(
            f"The judge names {', '.join(labels)}: swaps need one that is motion (--dynamic_factors) and one that is "
            "not."
        )
    try:
        truth = true_clips(test, num_frames, args.skeletons)
    except ValueError as error:
        if args.skeletons:
            raise
        truth = NotMeasured(f"{error} See --skeletons." if "Skeleton.zip" in str(error) else str(error))
    label_free = None
    if args.identity_model or args.motion_model:
        if num_frames < 4:
            raise ValueError(f"--num_frames is {num_frames}: distances without labels need at least 4.")
        args.identity_model = args.identity_model or IDENTITY_MODEL
        args.motion_model = args.motion_model or MOTION_MODEL
        label_free = PretrainedFeatures(args.identity_model), PretrainedFeatures(args.motion_model)
    pairs = ordered_pairs(len(items), args.num_pairs or None, args.seed) if len(items) > 1 else []
    probed = draw_clips(range(len(train)), args.num_probe_clips, args.seed)
    return Bench(
        [train[index] for index in probed],
        items, clips, pairs, static, dynamic, judge, dict(list(judges.items())[1:]), truth, label_free,
        next(iter(args.models), ""), args.seed, args.out,
    )  # fmt: skip


def refuse_judge(judge: ClipJudge, wanted: Mapping, has: Mapping, dataset: str) -> None:
    """Raises ValueError for one that names other things than the set has, or than the first judge names."""
    for factor, names in judge.config.factors.items():
        if has.get(factor) != list(names):
            raise ValueError(
                f"The judge names {factor!r} as {list(names)[:3]}..., which is not what {dataset} has: it is the "
                f"judge of {judge.config.dataset or 'another set'}."
            )
    if missing := [factor for factor in wanted if factor not in judge.config.factors]:
        raise ValueError(f"The first judge names {', '.join(missing)}, and another does not: all of them must.")


def revision() -> str:
    """The git revision of this code, with a mark where it has been changed since."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"


def settings(args, bench: Bench) -> dict:
    """
    What all figures of a file must have in common: names and numbers to show, and fingerprints of what is behind them.
    """
    names = ("split", "num_inference_steps", "num_probe_clips", "identity_model", "motion_model", "seed")
    return {name: getattr(args, name) for name in names} | {
        "dataset": Path(args.dataset).name,
        "num_clips": len(bench.clips),
        "num_pairs": len(bench.pairs),
        "num_frames": bench.clips.shape[1],
        "static_factors": bench.static_factors,
        "dynamic_factors": bench.dynamic_factors,
        "judge": None if bench.judge is None else about_judge(bench.judge),
        "other_judges": {name: about_judge(judge) for name, judge in bench.other_judges.items()},
        "clips": fingerprint(bench.clips, map(labels_of, bench.items), bench.pairs),
        "training_clips": fingerprint(map(dict.items, bench.train)),
        "recordings": recordings(bench.true_clip),
        "label_free_features": bench.label_free
        and fingerprint(
            *([getattr(each, "model", None), getattr(each, "processor", None)] for each in bench.label_free)
        ),
    }


def about_judge(judge: ClipJudge) -> dict:
    accuracy = judge.config.test_accuracy
    return {"fingerprint": fingerprint(judge), "accuracy": accuracy, "describe": judge.describe()}


def labels_of(item: dict) -> dict:
    return {name: value for name, value in item.items() if name != "frames"}


def recordings(truth) -> str | None:
    """What true clips are made of beside their donors; None where there are none."""
    if isinstance(truth, NotMeasured):
        return None
    if isinstance(truth, SkeletonTruth):
        return fingerprint(truth.skeletons, truth.people)
    if isinstance(truth, SpritesTruth):
        return fingerprint(map(dict.items, (truth.clips[i] for i in range(len(truth.clips)))))
    return "rendered"


def environment() -> dict[str, str]:
    packages = ("torch", "diffusers", "numpy", "scikit-learn", "divid_diffusers")
    machine = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version()}
    return machine | {package: version(package) for package in packages}


def measure(name: str, model: PipelineDisentangler | Floor, bench: Bench, results: dict, args) -> None:
    is_floor = isinstance(model, Floor)
    entry, has = results["models"].get(name), model.fingerprint()
    if entry is None or entry.get("fingerprint") != has:
        parts = [] if is_floor else [getattr(model.pipe, name, None) for name in ("encoder", "unet", "model")]
        count = sum(p.numel() for part in parts if part is not None for p in part.parameters())
        entry = {"fingerprint": has, "parameters": count, "sections": {}}
        results["models"][name] = entry
    prior = None if is_floor else getattr(model.pipe, "prior", None)  # its figures are those of one section
    if entry.get("prior") != (prior and fingerprint(prior)):
        entry["sections"].pop("prior", None)
        entry["prior"] = prior and fingerprint(prior)
    for section in args.sections:
        if is_floor and section not in OF_FLOORS:
            continue
        if "result" in entry["sections"].get(section, {}):  # what was left out may be measurable now
            continue
        print(f"{name}: {section} ...", flush=True)
        start = time.perf_counter()
        try:
            found = {"result": SECTIONS[section](model, bench)}
        except NotMeasured as reason:
            found = {"left_out": str(reason)}
        seconds = round(time.perf_counter() - start, 1)
        entry["sections"][section] = found | {"seconds": seconds, "revision": revision()}
        if environment() != results["environment"]:
            entry["sections"][section]["environment"] = environment()
        save_results(results, args.out / "results.json")


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    torch.set_flush_denormal(True)
    try:
        bench = open_bench(args)
        results = open_results(args.out / "results.json", settings(args, bench), environment())
        models = {
            name: load_model(name, path, args.seed, args.num_inference_steps, name not in args.tokens_alone)
            for name, path in args.models.items()
        }
        for name, model in models.items():
            channels, size = model.pipe.frame_shape
            has, wants = tuple(bench.clips.shape[2:]), (channels, size, size)
            if has != wants:
                raise ValueError(
                    f"{name} takes frames of (channels, height, width) {wants}, but {args.dataset} has {has}."
                )
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        models |= {floor.name: floor for floor in floors(bench.train_clips())}
        for name, model in models.items():
            measure(name, model, bench, results, args)
    except ValueError as error:  # codes with NaN, clips of another shape
        raise SystemExit(f"{name}: {error}") from error
    draw_swap_figure({name: model for name, model in models.items() if name not in DRAWN_AS_DONORS}, bench, args.out)
    print(write_report(args.out))


if __name__ == "__main__":
    main()
