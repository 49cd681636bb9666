"""Prepare any folder of videos, GIFs or folders of frame images, with labels or without.

    python training/prepare/videos.py --input my_videos --output_dir data/mine
    python training/prepare/videos.py --input my_videos --output_dir data/mine --labels identity action

Labels come from metadata.csv, .jsonl or .parquet files, if there are any (a column file_name with paths relative to
the file's folder, and one column for each of --labels: the videofolder convention of `datasets`), else from the names
of the folders:

    my_videos/ann/walk/clip1.mp4      --labels identity action: identity "ann", action "walk"

Where clips lie in my_videos/train and my_videos/test or my_videos/validation, or metadata has a column split, that is
the split, else it is drawn. What a split of your own lacks, validation or test, is drawn from its training clips.

Frames are cropped around the centre to a square and resized, as DiViDPipeline does with a clip it is given. Links to
folders are followed. Pictures beside videos are not taken for frames. Hidden files, previews that systems leave
behind, and files of other kinds are passed over. Open the result with datasets.load_from_disk.
"""

import csv
import functools
import json
import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from preparation import Clip, Plan, given_path, parser_for, prepare, reasons
from split import hold_out_validation, num_test_clips, random_test_ids

from divid_diffusers.clips.folder import find_clips, is_clutter, list_files
from divid_diffusers.clips.processor import ClipProcessor
from divid_diffusers.clips.reading import ClipFile
from divid_diffusers.flags import SEED, whole


MAX_FRAMES = 10_000  # a clip is kept in memory whole
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
COLUMN, SPLIT_COLUMN = "file_name", "split"
SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
SPLITS |= dict.fromkeys(["validation", "valid", "val", "dev"], "validation")
TEST_FRACTION = 0.1


def parse_args(argv=None):
    parser = parser_for(__doc__)
    parser.add_argument("--input", type=given_path, required=True, help="The folder, searched with its subfolders.")
    parser.add_argument(
        "--labels", nargs="+", default=[], help="Names of the labels, e.g. identity action; default: none."
    )
    parser.add_argument("--size", type=whole(1), default=64, help="Height and width of the frames.")
    parser.add_argument("--grey", action="store_true", help="One channel instead of RGB.")
    parser.add_argument(
        "--fps",
        type=float,
        help="Frames per second to keep, also where a clip's own rate varies; default: every frame. Not for folders "
        "of frames.",
    )
    parser.add_argument(
        "--test_fraction",
        type=float,
        help="Share of the clips kept for test, at random and at least two of four or more, where --input is not "
        "split already; "
        f"default: {TEST_FRACTION}.",
    )
    parser.add_argument("--seed", type=SEED, default=0, help="Of the split.")
    args = parser.parse_args(argv)
    if args.fps is not None and not 0.01 <= args.fps <= 1000:
        parser.error("--fps must be positive, from 0.01 to 1000.")
    if args.test_fraction is not None and not 0 < args.test_fraction < 1:
        parser.error("--test_fraction must be between 0 and 1.")
    reserved = {"frames", "clip_id", "source", COLUMN, SPLIT_COLUMN} & set(args.labels)
    if reserved or len(set(args.labels)) < len(args.labels):
        parser.error(f"--labels must be different names, none of them {', '.join(sorted(reserved)) or 'twice'}.")
    return args


def read_metadata(root: Path, clips: Iterable[str], labels: list[str]) -> tuple[str, dict[str, dict]] | None:
    """
    The metadata files' names, and their rows by clip (by what a row says where there is no such clip); None where
    there is no such file.
    """
    known = {same_letters(clip): clip for clip in clips}
    names = [name for name in list_files(root) if Path(name).name in METADATA and not is_clutter(name)]
    found = {}
    for name in names:
        for row in read_rows(root / name):
            if not isinstance(row, dict) or not isinstance(row.get(COLUMN), str):
                if not labels:  # and a table of another kind is none of ours
                    continue
                raise SystemExit(
                    f"{root / name} has a row without {COLUMN!r}: each must name its video, relative to "
                    f"{(root / name).parent}."
                )
            clip = clip_of(row[COLUMN], root, Path(name).parent, known)
            before = found.setdefault(clip, row)
            for column in [*labels, SPLIT_COLUMN]:
                if row.get(column) in (None, "") or before.get(column) in (None, ""):
                    before[column] = before.get(column) or row.get(column)
                elif str(before[column]) != str(row[column]):
                    raise SystemExit(
                        f"{root / name} says of {clip} both {column} {before.get(column)!r} and {row.get(column)!r}: "
                        "keep one row."
                    )
    return (" and ".join(names), found) if found or (names and labels) else None


def read_rows(file: Path) -> list[dict]:
    try:
        if file.suffix == ".parquet":
            return pq.ParquetFile(file).read().to_pylist()
        with open(file, encoding="utf-8-sig", newline="") as lines:
            if file.suffix == ".csv":
                return list(csv.DictReader(lines))
            return [json.loads(line) for line in lines if line.strip()]
    except (ValueError, OSError, pa.ArrowException, csv.Error) as error:
        raise SystemExit(f"{file} cannot be read ({error}): is it UTF-8 and whole?") from error


def clip_of(said: str, root: Path, folder: Path, known: Mapping[str, str]) -> str:
    """
    The clip that a metadata file in `folder` means: its paths may be absolute, or have the backslashes of Windows.
    """
    for name in (said, said.replace("\\", "/")):
        path = os.path.relpath(os.path.join(root, folder, name), root)
        if clip := known.get(same_letters(Path(path).as_posix())):
            return clip
    return (folder / said.replace("\\", "/")).as_posix()


def same_letters(name: str) -> str:
    """A name that two systems write with different bytes, é as one letter or as two, in one way."""
    return unicodedata.normalize("NFC", name)


def labels_of(source: str, names: list[str], metadata: tuple[str, dict[str, dict]] | None) -> dict[str, str]:
    """`source` without the folder that says the split. Raises ValueError, saying what is missing."""
    if not names:
        return {}
    if metadata is None:
        folders = Path(source).parts[:-1]
        if len(folders) != len(names):
            raise ValueError(f"lies in {len(folders)} folders, but --labels names {len(names)}: {' '.join(names)}")
        return dict(zip(names, folders, strict=True))
    file, rows = metadata
    if source not in rows:
        raise ValueError(f"is not listed in {file}")
    missing = [name for name in names if rows[source].get(name) in (None, "")]
    if missing:
        raise ValueError(f"has no {', '.join(missing)} in {file}")
    return {name: str(rows[source][name]) for name in names}


def read_clip(clip: Clip, root: Path, size: int, grey: bool, fps: float | None) -> np.ndarray:
    file = ClipFile(root / clip.source, f"'{clip.source}'")
    frames = file.at_rate(fps) if fps else file
    pixels = bytearray()  # one buffer: small arrays would keep large ones from being freed
    length, first_shape = 0, None
    for frame in frames:
        shape = (frame.height, frame.width) if isinstance(frame, Image.Image) else frame.shape[:2]
        first_shape = first_shape or shape
        if shape != first_shape:
            raise ValueError(f"has frames of different sizes, {first_shape} and {shape}: make them one size first")
        length += 1
        if length > MAX_FRAMES:
            raise ValueError(f"is longer than {MAX_FRAMES} frames: cut it into clips, or give --fps")
        small = ClipProcessor().preprocess([frame], size, 1 if grey else 3)[0]
        pixels += ((small + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy().tobytes()
    if not length:
        raise ValueError("has no frames in it")
    return np.frombuffer(pixels, np.uint8).reshape(length, size, size, 1 if grey else 3)


def own_splits(
    clips: list[str], metadata: tuple[str, dict[str, dict]] | None
) -> tuple[dict[str, str | None], int, str]:
    """
    The split of each clip as the user wrote it down, None for a clip of which nothing is said; all None where nothing
    is. How many folders of a path say the split, 0 or 1; and where it is said.
    """
    tops = {clip: SPLITS.get(Path(clip).parts[0].lower()) if len(Path(clip).parts) > 1 else None for clip in clips}
    by_folder = {"train"} < set(tops.values()) - {None}
    nothing = dict.fromkeys(clips)
    splits, where = (tops, "the folders of --input") if by_folder else (nothing, "")
    rows = metadata[1] if metadata else {}
    if any(rows.get(clip, {}).get(SPLIT_COLUMN) for clip in clips):
        splits = dict(splits)
        for clip in clips:
            said = str(rows.get(clip, {}).get(SPLIT_COLUMN) or "")
            split = SPLITS.get(said.strip().lower())
            if said and split is None:
                raise SystemExit(
                    f"{metadata[0]} says of {clip} the split {said!r}: it must be train, validation or test."
                )
            if split and splits[clip] and split != splits[clip]:
                raise SystemExit(
                    f"{metadata[0]} says of {clip} the split {said!r}, but it lies in {Path(clip).parts[0]}."
                )
            splits[clip] = split or splits[clip]
        where = metadata[0]
    named = set(splits.values())
    if "train" not in named or len(named - {None}) < 2:
        return nothing, int(by_folder), ""
    return splits, int(by_folder), where


def make_plan(args) -> Plan:
    try:
        clips, skipped = find_clips(args.input)
        if not clips:
            nothing = f"{args.input} holds no video, GIF or folder of frame images."
            raise SystemExit("\n".join([nothing, *reasons(skipped)]))
        metadata = read_metadata(args.input, clips, args.labels)
    except OSError as error:
        raise SystemExit(str(error)) from None
    splits, folders, where = own_splits(clips, metadata)
    rows = list(metadata[1].values()) if metadata else []
    # A table of splits alone leaves the labels to the folders.
    only_splits = any(row.get(SPLIT_COLUMN) for row in rows) and not any(
        row.get(n) for row in rows for n in args.labels
    )
    of_labels = None if only_splits else metadata
    labelled = {}
    for source in clips:
        try:
            if where and splits[source] is None:
                raise ValueError(f"is in no split, as others are by {where}")
            path = source if of_labels else "/".join(Path(source).parts[folders:])
            labelled[source] = labels_of(path, args.labels, of_labels)
        except ValueError as error:
            skipped[source] = str(error)
    if metadata:
        skipped |= {
            name: f"is listed in {metadata[0]} but not there" for name in metadata[1] if name not in labelled | skipped
        }
    if not labelled:
        raise SystemExit("\n".join(["Not one clip has its labels:", *reasons(skipped)]))
    rule = f"the user's own, by {where}" if where else ""
    if where and args.test_fraction is not None:
        raise SystemExit(f"--input is split already, by {where}: leave out --test_fraction, or undo that split.")
    if where and (missing := set(splits.values()) - {None} - {splits[source] for source in labelled}):
        raise SystemExit("\n".join([f"No clip of {' and '.join(missing)} has its labels:", *reasons(skipped)]))
    if not where:
        splits = dict.fromkeys(labelled, "train")
    if "test" not in splits.values():
        train = {source: labels for source, labels in labelled.items() if splits[source] == "train"}
        num_test = num_test_clips(args.test_fraction or TEST_FRACTION, len(train))
        splits |= dict.fromkeys(random_test_ids(list(train), num_test, args.seed, train), "test")
        rule += (
            f"{'; ' if rule else ''}{num_test} test clips at random by clip, numpy.random.RandomState({args.seed}) "
            "over the sorted file names; of its first draws the one that leaves evaluation most to measure"
        )
    clips, validation_rule = hold_out_validation(
        [Clip(source, source, splits[source], labels) for source, labels in labelled.items()]
    )
    return Plan(
        clips,
        functools.partial(read_clip, root=args.input.absolute(), size=args.size, grey=args.grey, fps=args.fps),
        (args.size, args.size, 1 if args.grey else 3),
        {name: sorted({labels[name] for labels in labelled.values()}) for name in args.labels},
        rule + validation_rule,
        description=f"Videos of the folder {args.input.resolve().name}.",
        skipped=skipped,
    )


def main(argv=None) -> None:
    args = parse_args(argv)
    prepare(make_plan(args), args.output_dir, args.num_workers)


if __name__ == "__main__":
    main()
