"""Render people with faces: who they are and what they do are independent and known, so every swap has a true answer.

    python training/prepare/people.py --output_dir data/people-faces

Head and shoulders of Anny's parametric body (https://github.com/naver/anny), with shape, skin, hair, clothes,
background and light of our own drawing: rendered people, no real person. Each performs some of 18 expressions (MEAD's
eight emotions, speech, blinks, nods, ...), at one of three levels, with a motion that nobody else performs. Open the
result with datasets.load_from_disk; a clip's id says how it was rendered: p12-happy-3-345 is person 12, happy, level
3, motion seed 345, and divid_diffusers.data.people.express gives its facial actions, pose and gaze.

Needs the extra `people` (pip install -e ".[people]") and OpenGL, which Mesa gives without a screen or a GPU.
"""

import functools
import os
from dataclasses import replace
from importlib.metadata import version

import numpy as np
from preparation import Clip, Plan, parser_for, prepare
from split import hold_out_validation, num_test_clips, random_test_ids

from divid_diffusers.data import people
from divid_diffusers.data.people import EXPRESSIONS, LEVELS, Person, clip_name, of_clip_name
from divid_diffusers.data.people_person import BEARDS, HAIR_STYLES, SKINS
from divid_diffusers.flags import SEED, whole


SHARE = 0.12  # of the clips, of the people or of the expressions, that is kept for test
CITATION = "Brégier et al.: Human Mesh Modeling for Anny Body. ECCV 2026."
LICENSE = (
    "rendered people, no real person; made with Anny (Apache-2.0, NAVER Corp.) and assets of MakeHuman (CC0); "
    "free to use, as the code that renders them"
)


def parse_args(argv=None):
    parser = parser_for(__doc__)
    parser.add_argument("--num_people", type=whole(2), default=300)
    parser.add_argument(
        "--clips_per_person",
        type=whole(1, len(EXPRESSIONS)),
        default=12,
        help="Of so many expressions, one clip each.",
    )
    parser.add_argument("--num_frames", type=whole(1), default=15, help="Frames of a clip, 0.1 s apart.")
    parser.add_argument("--size", type=whole(16), default=64, help="Height and width of the frames.")
    parser.add_argument(
        "--split",
        choices=["cells", "identities", "expressions"],
        default="cells",
        help="What training has not seen: a person with an expression, though it has seen both; or the person; or "
        "the expression.",
    )
    parser.add_argument("--seed", type=SEED, default=0, help="Of who performs what, and of the split.")
    return parser.parse_args(argv)


def make_clips(args) -> list[Clip]:
    random = np.random.RandomState(args.seed)
    clips = []
    for identity in range(args.num_people):
        person = Person.sample(identity)
        for action in sorted(random.permutation(len(EXPRESSIONS))[: args.clips_per_person]):
            labels = {
                "identity": str(identity), "skin": person.skin_tone, "hair": person.hair_style,
                "beard": person.beard, "action": EXPRESSIONS[action], "level": LEVELS[random.randint(len(LEVELS))],
            }  # fmt: skip
            clip_id = clip_name(identity, labels["action"], labels["level"], len(clips))
            clips.append(Clip(clip_id, clip_id, "train", labels))
    return clips


def split_clips(clips: list[Clip], args) -> tuple[list[Clip], str]:
    """The clips with their splits, and the rule in words."""
    groups = {
        "cells": [clip.clip_id for clip in clips],
        "identities": [clip.labels["identity"] for clip in clips],
        "expressions": [clip.labels["action"] for clip in clips],
    }[args.split]
    names = sorted(set(groups))
    test = random_test_ids(names, num_test_clips(SHARE, len(names)), args.seed)
    clips = [replace(clip, split="test") if group in test else clip for clip, group in zip(clips, groups)]
    what = "clips, each a person with an expression," if args.split == "cells" else args.split
    rule = f"{len(test)} of {len(names)} {what} for test, numpy.random.RandomState({args.seed}) over the sorted names"
    if args.split == "cells":
        clips, validation_rule = hold_out_validation(clips)
        return clips, rule + validation_rule
    others = [name for name in names if name not in test]
    held_out = random_test_ids(others, num_test_clips(SHARE, len(others)), args.seed)
    clips = [replace(c, split="validation") if group in held_out else c for c, group in zip(clips, groups)]
    return clips, f"{rule}; {len(held_out)} of the others for validation, in the same way"


def make_plan(args) -> Plan:
    """Raises SystemExit, in a sentence, where Anny or OpenGL is missing."""
    try:
        people.renderer(args.size)
    except (ImportError, OSError) as error:
        raise SystemExit(str(error)) from error
    clips, rule = split_clips(make_clips(args), args)
    names = {
        "identity": [str(number) for number in range(args.num_people)],
        "skin": list(SKINS), "hair": list(HAIR_STYLES), "beard": list(BEARDS),
        "action": list(EXPRESSIONS), "level": list(LEVELS),
    }  # fmt: skip
    how = {"size": args.size, "num_frames": args.num_frames, "drawn_by": f"anny {version('anny')}, {people.DRAWING}"}
    return Plan(
        clips,
        functools.partial(read_clip, **how),
        (args.size, args.size, 3),
        names,
        rule,
        description="Rendered people, no real person: faces of Anny's parametric body (https://github.com/naver/anny).",
        license=LICENSE,
        citation=CITATION,
    )


def read_clip(clip: Clip, size: int, num_frames: int, drawn_by: str) -> np.ndarray:
    """`drawn_by` keeps apart what was drawn by other versions, when a stopped run goes on."""
    person, expression, level, seed = of_clip_name(clip.clip_id)
    return people.render(Person.sample(person), expression, level, seed, num_frames, size)


def main(argv=None) -> None:
    args = parse_args(argv)
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa draws in the process that asks: there is one per core
    prepare(make_plan(args), args.output_dir, args.num_workers)


if __name__ == "__main__":
    main()
