"""Prepare UTD-MHAD (https://personal.utdallas.edu/~kehtar/UTD-MHAD.html): 861 recordings, 27 actions by 8 people.

    python training/prepare/mhad.py --modality depth --input Depth.zip --output_dir data/mhad-depth

--input is a zip as its site serves it, or a folder it was unpacked to. What is read from it:

    rgb        a1_s1_t1_color.avi     the middle of each frame, 480 x 480, or --crop
    depth      a1_s1_t1_depth.mat     nearness as grey, 64 x 64; also a zip of packed a1_s1_t1_depth.npy
    skeleton   a1_s1_t1_skeleton.mat  the motion of the recording, performed by a drawn person (Puppets)
    people     a1_s1_t1_skeleton.mat  the same, performed by a rendered person (see people.py)

Open the result with datasets.load_from_disk. A tenth of the training recordings are for validation, of which another
trial of the same person and action stays in training: the same ones for every modality. Three recordings (a8_s1_t4,
a23_s6_t4, a27_s8_t4) were never released.
"""

import functools
import io
import os
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from preparation import Clip, Plan, given_path, parser_for, prepare
from split import hold_out_validation, random_test_ids

from divid_diffusers.clips.folder import list_files
from divid_diffusers.clips.processor import ClipProcessor
from divid_diffusers.clips.reading import open_source
from divid_diffusers.data import people_body
from divid_diffusers.data.mhad import (
    ACTIONS,
    CROSS_SUBJECT_TEST,
    NEVER_RELEASED,
    NUM_TEST_CLIPS,
    SUBJECTS,
    Recording,
    read_depth,
)
from divid_diffusers.data.mhad_skeleton import read_skeleton, render_skeleton
from divid_diffusers.data.people import DRAWING
from divid_diffusers.data.people_person import HAIR_STYLES, SKINS, Person
from divid_diffusers.data.puppets import Appearance
from divid_diffusers.flags import SEED, whole


SUFFIXES = {"rgb": ("_color.avi",), "depth": ("_depth.mat", "_depth.npy"), "skeleton": ("_skeleton.mat",)}
SUFFIXES["people"] = SUFFIXES["skeleton"]
CROP = slice(156, 492)  # columns of the 640; a crop used by others
NUM_RECORDINGS = 861
CITATION = "Chen, Jafari and Kehtarnavaz: UTD-MHAD, a multimodal dataset for human action recognition. ICIP 2015."


def parse_args(argv=None):
    parser = parser_for(__doc__)
    parser.add_argument("--modality", choices=list(SUFFIXES), required=True)
    parser.add_argument(
        "--input", type=given_path, required=True, help="A zip file or a folder, searched with its subfolders."
    )
    parser.add_argument(
        "--size", type=whole(1), default=64, help="Height and width of the frames; depth is always 64."
    )
    parser.add_argument(
        "--crop", action="store_true", help="rgb: columns 156 to 492, squeezed to a square, as others do."
    )
    parser.add_argument(
        "--num_people", type=whole(1), default=32, help="skeleton, people: how many people perform the motions."
    )
    parser.add_argument(
        "--split",
        choices=["clip", "cross_subject"],
        default="clip",
        help="clip: --num_test clips at random, so that every person is seen in training. cross_subject: people 2, 4, "
        "6 and 8.",
    )
    parser.add_argument("--num_test", type=whole(1), default=NUM_TEST_CLIPS, help="Test clips of --split clip.")
    parser.add_argument("--seed", type=SEED, default=0, help="Of --split clip, and of who performs what.")
    args = parser.parse_args(argv)
    if args.modality == "depth" and args.size != 64:
        parser.error("--size is 64 for depth: its frames are prepared as the packed set is.")
    return args


def list_recordings(root: Path) -> list[str]:
    """
    The names of the files in a zip or below a folder. Raises SystemExit, in a sentence, for one that cannot be read.
    """
    if root.is_dir():
        try:
            return list_files(root)
        except OSError as error:
            raise SystemExit(str(error)) from None
    try:
        with zipfile.ZipFile(root) as archive:
            return sorted(archive.namelist())
    except FileNotFoundError:
        raise SystemExit(f"There is no zip file or folder at {root}: check --input.") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise SystemExit(
            f"{root} is neither a folder nor a whole zip file ({error}): copy or download it again."
        ) from None


def read_file(root: Path, name: str) -> bytes:
    if root.is_dir():
        return (root / name).read_bytes()
    try:
        with zipfile.ZipFile(root) as archive:
            return archive.read(name)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{name} is damaged in {root.name} ({error}): download the zip again.") from error


def read_clip(clip: Clip, root: Path, modality: str, size: int, crop: bool, drawn_by: str = "") -> np.ndarray:
    """`drawn_by` keeps apart what was rendered by other versions, when a stopped run goes on."""
    content = read_file(root, clip.source)
    if modality == "rgb":
        return read_rgb(content, clip.source, size, crop)
    if modality == "skeleton":
        person = Appearance.sample(int(clip.labels["identity"]))
        return render_skeleton(read_skeleton(content, clip.source), person, size)
    if modality == "people":
        skeleton, person = read_skeleton(content, clip.source), Person.sample(int(clip.labels["identity"]))
        return people_body.render_body(skeleton, person, size)
    depth = read_packed(content, clip.source) if clip.source.endswith(".npy") else read_depth(content, clip.source)
    return depth[..., None]


def read_packed(content: bytes, name: str) -> np.ndarray:
    try:
        frames = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{name} is not a NumPy file, or it is damaged: copy it again.") from error
    if frames.dtype != np.uint8 or frames.shape[1:] != (64, 64) or not len(frames):
        raise ValueError(f"{name} is {frames.dtype} {frames.shape}, but must be uint8 (F, 64, 64).")
    return frames


def read_rgb(content: bytes, name: str, size: int, crop: bool) -> np.ndarray:
    with tempfile.NamedTemporaryFile(suffix=".avi") as file:  # a member of a zip has no path
        file.write(content)
        file.flush()
        frames = list(open_source(file.name, name))
    if crop:
        return np.stack([cv2.resize(frame[:, CROP], (size, size), interpolation=cv2.INTER_AREA) for frame in frames])
    pixels = ClipProcessor().preprocess(frames, size)[0]
    return ((pixels + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def make_plan(args) -> Plan:
    names = [
        name for name in list_recordings(args.input) if name.endswith(SUFFIXES[args.modality]) and Recording.of(name)
    ]
    if not names:
        raise SystemExit(
            f"{args.input} holds no file named like 'a1_s1_t1{SUFFIXES[args.modality][0]}': check --input and "
            "--modality."
        )
    recordings = {name: Recording.of(name) for name in names}
    ids = [recording.clip_id for recording in recordings.values()]
    if args.split == "clip":
        test = random_test_ids(ids, args.num_test, args.seed)
        rule = (
            f"{args.num_test} test clips at random by clip, numpy.random.RandomState({args.seed}) over the sorted ids"
        )
    else:
        test = {r.clip_id for r in recordings.values() if f"s{r.subject}" in CROSS_SUBJECT_TEST}
        rule = f"cross-subject: {', '.join(CROSS_SUBJECT_TEST)} are test"
    labels = {"identity": SUBJECTS, "action": ACTIONS}
    if args.modality == "skeleton":
        labels = {"identity": [str(n) for n in range(args.num_people)], "performer": SUBJECTS, "action": ACTIONS}
    elif args.modality == "people":
        labels = {"identity": [str(n) for n in range(args.num_people)], "skin": list(SKINS), "hair": list(HAIR_STYLES)}
        labels |= {"performer": SUBJECTS, "action": ACTIONS}
    people = np.random.RandomState(args.seed).randint(args.num_people, size=(27, 8, 4))
    clips = []
    for name, r in recordings.items():
        who = {"identity": f"s{r.subject}", "performer": f"s{r.subject}"}
        if args.modality in ("skeleton", "people"):
            number = people[r.action - 1, r.subject - 1, r.trial - 1]
            person = Person.sample(number)
            who |= {"identity": str(number), "skin": person.skin_tone, "hair": person.hair_style}
        values = who | {"action": ACTIONS[r.action - 1]}
        split = "test" if r.clip_id in test else "train"
        clips.append(Clip(r.clip_id, name, split, {label: values[label] for label in labels}))
    # By who performs what, whatever the modality: the same recordings in all of them.
    performed = {r.clip_id: {"performer": r.subject, "action": r.action} for r in recordings.values()}
    clips, validation_rule = hold_out_validation(clips, performed)
    skipped = {clip_id: "was never released (corrupt recording)" for clip_id in NEVER_RELEASED if clip_id not in ids}
    missing = NUM_RECORDINGS - len(clips)
    if missing > 0:
        skipped["others"] = f"{missing} of the {NUM_RECORDINGS} released recordings are not in {args.input.name}"
    how = {"root": args.input.absolute(), "modality": args.modality, "size": args.size, "crop": args.crop}
    if args.modality == "people":
        try:
            people_body.body_renderer(args.size)
        except (ImportError, OSError) as error:
            raise SystemExit(str(error)) from error
        how["drawn_by"] = f"anny {version('anny')}, {DRAWING}"
    return Plan(
        clips,
        functools.partial(read_clip, **how),
        (args.size, args.size, 1 if args.modality == "depth" else 3),
        labels,
        rule + validation_rule,
        description=f"UTD-MHAD, {args.modality}.",
        license="freely available, public domain dataset (its authors' words); cite",
        citation=CITATION,
        skipped=skipped,
    )


def main(argv=None) -> None:
    args = parse_args(argv)
    os.environ.setdefault("LP_NUM_THREADS", "0")  # Mesa renders in the process that asks: there is one per core
    prepare(make_plan(args), args.output_dir, args.num_workers)


if __name__ == "__main__":
    main()
