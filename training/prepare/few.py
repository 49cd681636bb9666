"""
A few clips of a prepared set, in colour, as somebody's own would be: what README's lines make of few clips is measured
on them, with the judges of the whole set.

    python training/prepare/few.py --input data/mhad-depth --output_dir data/few-mhad --clips_per_cell 1 \
        --classes action=wave,boxing,clap,lunge,squat,jog

    python training/prepare/few.py --input data/sprites --output_dir data/few-sprites --people 12

Training clips are the first of each combination of the classes of all labels (a person who does something), of so many
people, drawn at random, if --people says how many; validation and test clips are all there are of the classes. Splits
and class numbers stay what they are.
"""

import argparse
import functools
from collections import defaultdict
from pathlib import Path

import numpy as np
from preparation import Clip, Plan, given_path, parser_for, prepare

from divid_diffusers.data.prepared import PreparedClips, load_clips, load_splits
from divid_diffusers.flags import whole


opened = functools.lru_cache(load_clips)


def read(clip: Clip, input: Path, rows: dict[str, int]) -> np.ndarray:
    frames = opened(str(input), clip.split)[rows[clip.clip_id]]["frames"]
    return frames.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()


def classes(text: str) -> tuple[str, list[str]]:
    """Type of --classes: a label and some of its classes."""
    label, separator, names = text.partition("=")
    if not separator or not names:
        raise argparse.ArgumentTypeError(f"{text!r} is no LABEL=CLASS,CLASS: write it as in action=wave,jog")
    return label, names.split(",")


def plan(input: Path, chosen: dict[str, list[str]], clips_per_cell: int, num_people: int | None = None) -> Plan:
    """Raises SystemExit, in a sentence, for no prepared set and for what it does not have."""
    try:
        sets = {split: PreparedClips(rows) for split, rows in load_splits(str(input)).items()}
    except ValueError as error:
        raise SystemExit(f"--input: {error}") from error
    if "train" not in sets:
        raise SystemExit(f"--input {input} has no training clips.")
    labels = sets["train"].labels
    for label, names in chosen.items():
        for name in names:
            if name not in labels.get(label, []):
                there = ", ".join(labels.get(label, labels)) or "nothing"
                raise SystemExit(f"--classes {label}={name}: {input} does not have that, but {there}.")
    if num_people and "identity" not in labels:
        raise SystemExit(f"--people: {input} does not say who is seen.")
    people = sorted({int(who) for who in sets["train"].dataset.with_format(None)["identity"]}) if num_people else []
    people = [labels["identity"][who] for who in np.random.default_rng(0).permutation(people)[:num_people]]
    clips, rows = [], {}
    for split, each in sets.items():
        seen = defaultdict(int)
        table = each.dataset.with_format(None).select_columns([*labels, "clip_id", "source"]).to_list()
        for row in sorted(range(len(table)), key=lambda row: table[row]["clip_id"]):
            told = {label: names[table[row][label]] for label, names in labels.items()}
            cell = tuple(told.values())
            if any(told[label] not in names for label, names in chosen.items()):
                continue
            seen[cell] += 1
            if split == "train":
                if seen[cell] > clips_per_cell or people and told["identity"] not in people:
                    continue
            rows[table[row]["clip_id"]] = row
            clips.append(Clip(table[row]["clip_id"], table[row]["source"], split, told))
    height, width, _ = sets["train"].shape
    return Plan(
        clips,
        functools.partial(read, input=input, rows=rows),
        (height, width, 3),
        labels,
        f"that of {input.name}; of its training clips the first {clips_per_cell} of each combination of classes",
        f"A few clips of {input.name}, in colour.",
    )


def main(argv: list[str] | None = None) -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--input", type=given_path, required=True, help="A prepared set.")
    parser.add_argument(
        "--classes", type=classes, nargs="+", default=[], help="Of each label named here, these classes alone."
    )
    parser.add_argument("--clips_per_cell", type=whole(1), default=1, help="Training clips of each combination.")
    parser.add_argument("--people", type=whole(1), help="Of so many people, in training. Default: of all.")
    args = parser.parse_args(argv)
    chosen = plan(args.input.absolute(), dict(args.classes), args.clips_per_cell, args.people)
    prepare(chosen, args.output_dir, args.num_workers)


if __name__ == "__main__":
    main()
