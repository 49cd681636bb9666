"""Prepare MEAD (https://wywu.github.io/projects/MEAD/MEAD.html): the heads of people who talk with eight emotions.

    python training/prepare/mead.py --input MEAD --output_dir data/mead

MEAD is given out on request to its authors, and no clip of it, cropped or not, may be passed on. It comes as one
folder for each person, with a video.tar in it that must be unpacked there: (cd M003 && tar -xf video.tar). What is
read:

    MEAD/M003/video/front/angry/level_1/001.mp4      identity "M003", action "angry", level "1"

The face is found by OpenCV's Haar cascades in at most 15 frames of a clip, and one square around the whole head, the
same for all its frames, is cut out and resized. A clip without a face is skipped and named, never taken whole. All
frames are kept: training draws its own. The paper uses 30 people (--subjects). Open the result with
datasets.load_from_disk.
"""

import functools
from pathlib import Path

import numpy as np
from face_crop import CASCADES, crop_head, load_cascade
from preparation import Clip, Plan, given_path, parser_for, prepare, reasons
from split import hold_out_validation, num_test_clips, random_test_ids

from divid_diffusers.clips.folder import VIDEO_SUFFIXES, is_clutter, list_files
from divid_diffusers.flags import whole


SEED = 0
LAYOUT = "M003/video/front/angry/level_1/001.mp4"
LEVEL = "level_"
CITATION = "Wang et al.: MEAD: A Large-scale Audio-visual Dataset for Emotional Talking-face Generation. ECCV 2020."


def parse_args(argv=None):
    parser = parser_for(__doc__)
    parser.add_argument("--input", type=given_path, required=True, help="The folder that holds M003, W009, ...")
    parser.add_argument("--size", type=whole(1), default=64, help="Height and width of the frames.")
    parser.add_argument("--subjects", nargs="+", help="Ids of the people, e.g. M003 W009; default: all there are.")
    parser.add_argument("--emotions", nargs="+", help="E.g. angry happy; default: all there are.")
    parser.add_argument(
        "--view", default="front", help="Folder of the camera; the cascades know faces seen from the front."
    )
    parser.add_argument(
        "--num_test",
        type=whole(1),
        help="Clips kept for test, at random so that every person is seen in training; default: a tenth.",
    )
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse_args(argv)
    for cascade in CASCADES:
        load_cascade(cascade)  # without it every clip would be skipped
    prepare(make_plan(args), args.output_dir, args.num_workers)


def make_plan(args) -> Plan:
    """
    Raises SystemExit, in a sentence, where --input is not laid out as MEAD is or does not have what was asked for.
    """
    root = args.input.absolute()
    people = find_people(root)
    check_known(args.subjects, people, f"person's folder in {root}")
    people = [person for person in people if not args.subjects or person in args.subjects]
    sources = {person: find_videos(root, person, args.view) for person in people}
    labels = {source: labels_of(source) for found in sources.values() for source in found}
    skipped = {person: why_none(root / person, args.view) for person in people if not sources[person]}
    for person, found in sources.items():
        skipped |= dict.fromkeys(find_strays(root, person, args.view, found), f"does not lie as {LAYOUT}")
    if not labels:
        raise SystemExit("\n".join(["There is not a single clip to prepare:", *reasons(skipped)]))
    check_known(args.emotions, sorted({each["action"] for each in labels.values()}), f"emotion in {root}")
    if args.emotions:
        labels = {source: each for source, each in labels.items() if each["action"] in args.emotions}
    num_test = num_test_clips(0.1, len(labels)) if args.num_test is None else args.num_test
    by_id = {clip_id_of(source): each for source, each in labels.items()}
    test = random_test_ids(list(by_id), num_test, SEED, by_id)
    clips = [
        Clip(clip_id_of(source), source, "test" if clip_id_of(source) in test else "train", each)
        for source, each in labels.items()
    ]
    check_seen(clips)
    clips, validation_rule = hold_out_validation(clips)
    return Plan(
        clips,
        functools.partial(read_clip, root=root, size=args.size),
        (args.size, args.size, 3),
        {name: sorted({each[name] for each in labels.values()}) for name in ("identity", "action", "level")},
        f"{num_test} test clips at random by clip, numpy.random.RandomState({SEED}) over the sorted ids"
        + validation_rule,
        description=f"MEAD, view {args.view}: heads, found by OpenCV's Haar cascades.",
        license="given out by its authors on request; no clip may be passed on",
        citation=CITATION,
        skipped=skipped,
    )


def find_people(root: Path) -> list[str]:
    if not root.is_dir():
        raise SystemExit(f"There is no folder {root}: check --input.")
    people = [path.name for path in entries(root) if {"video", "video.tar"} & {each.name for each in entries(path)}]
    if not people:
        raise SystemExit(f"{root} holds no person's folder: MEAD's clips are expected to lie there as {LAYOUT}.")
    return people


def find_videos(root: Path, person: str, view: str) -> list[str]:
    """Paths relative to `root`."""
    return [
        path.relative_to(root).as_posix()
        for emotion in entries(root / person / "video" / view)
        for level in entries(emotion)
        if level.name.startswith(LEVEL)
        for path in entries(level)
        if path.suffix.lower() == ".mp4"
    ]


def find_strays(root: Path, person: str, view: str, found: list[str]) -> list[str]:
    """
    Videos of a person that lie elsewhere in the view's folder, or are no mp4. Raises SystemExit, in a sentence, where
    one cannot look.
    """
    folder = Path(person, "video", view)
    if not (root / folder).is_dir():
        return []
    try:
        names = [(folder / name).as_posix() for name in list_files(root / folder)]
    except OSError as error:
        raise SystemExit(str(error)) from None
    known = set(found)
    return [
        name for name in names if name.lower().endswith(VIDEO_SUFFIXES) and name not in known and not is_clutter(name)
    ]


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order, without hidden files; nothing where there is no folder."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SystemExit(
            f"Cannot read the folder {folder} ({error.strerror}): change its permissions, or move it."
        ) from error


def labels_of(source: str) -> dict[str, str]:
    person, _, _, emotion, level, _ = source.split("/")
    return {"identity": person, "action": emotion, "level": level.removeprefix(LEVEL)}


def clip_id_of(source: str) -> str:
    person, _, *rest = source.split("/")
    return "_".join([person, *rest]).rpartition(".")[0]


def why_none(person: Path, view: str) -> str:
    views = [path.name for path in entries(person / "video")]
    if not views and (person / "video.tar").exists():
        return f"{person.name}/video.tar is not unpacked: cd {person} && tar -xf video.tar"
    if view not in views:
        return f"{person.name}/video has no view {view!r}, but {', '.join(views) or 'nothing'}: check --view"
    return f"{person.name}/video/{view} has no clips: they are expected as {LAYOUT}"


def check_known(asked: list[str] | None, known: list[str], what: str) -> None:
    if unknown := [name for name in asked or [] if name not in known]:
        raise SystemExit(f"There is no {what} named {', '.join(unknown)}: there are {', '.join(known)}.")


def check_seen(clips: list[Clip]) -> None:
    """Who a person is can be learned of those only who are seen in training."""
    people = {clip.labels["identity"] for clip in clips}
    if unseen := people - {clip.labels["identity"] for clip in clips if clip.split == "train"}:
        raise SystemExit(
            f"All clips of {', '.join(sorted(unseen))} fell to test, but every person must be seen in training: "
            "choose a smaller "
            "--num_test, or leave them out with --subjects."
        )


def read_clip(clip: Clip, root: Path, size: int) -> np.ndarray:
    return crop_head(root / clip.source, f"'{clip.source}'", size)


if __name__ == "__main__":
    main()
