"""Prepare any folder of videos, GIFs or folders of frame images, with labels or without.

    python training/prepare/videos.py --input my_videos --output_dir data/mine
    python training/prepare/videos.py --input my_videos --output_dir data/mine --labels identity action

Labels come from a metadata.csv or metadata.jsonl in --input, if there is one (a column file_name with paths relative to --input,
and one column for each of --labels: the videofolder convention of `datasets`), else from the names of the folders:

    my_videos/ann/walk/clip1.mp4      --labels identity action: identity "ann", action "walk"

Frames are cropped around the centre to a square and resized, as DiViDPipeline does with a clip it is given. Hidden files and
files of other kinds are passed over. Open the result with datasets.load_from_disk.
"""

import csv
import functools
import json
from pathlib import Path

import numpy as np
from PIL import Image
from preparation import Clip, Plan, list_files, parser_for, prepare, random_test_ids, reasons, seed

from divid_diffusers.clips.processor import ClipProcessor
from divid_diffusers.clips.reading import FRAME_SUFFIXES, open_source
from divid_diffusers.clips.video import SeekableVideo


VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".ts", ".mts", ".3gp", ".gif",
)  # fmt: skip
MAX_FRAMES = 10_000  # a clip is kept in memory whole
COLUMN = "file_name"


def parse_args(argv=None):
    parser = parser_for(__doc__)
    parser.add_argument("--input", type=Path, required=True, help="The folder, searched with its subfolders.")
    parser.add_argument(
        "--labels", nargs="+", default=[], help="Names of the labels, e.g. identity action; default: none."
    )
    parser.add_argument("--size", type=int, default=64, help="Height and width of the frames.")
    parser.add_argument("--grey", action="store_true", help="One channel instead of RGB.")
    parser.add_argument(
        "--fps",
        type=float,
        help="Frames per second to keep, also where a video's own rate varies; default: every frame. Not for GIFs and folders.",
    )
    parser.add_argument(
        "--test_fraction", type=float, default=0.1, help="Share of the clips kept for test, at random."
    )
    parser.add_argument("--seed", type=seed, default=0, help="Of the split.")
    args = parser.parse_args(argv)
    if args.size < 1:
        parser.error("--size must be at least 1.")
    if args.fps is not None and not args.fps > 0:
        parser.error("--fps must be positive.")
    if not 0 < args.test_fraction < 1:
        parser.error("--test_fraction must be between 0 and 1.")
    reserved = {"frames", "clip_id", "source", COLUMN} & set(args.labels)
    if reserved or len(set(args.labels)) < len(args.labels):
        parser.error(f"--labels must be different names, none of them {', '.join(sorted(reserved)) or 'twice'}.")
    return args


def find_clips(root: Path) -> list[str]:
    """Paths, relative to `root`, of all videos and of all folders that hold frame images."""
    if not root.is_dir():
        raise SystemExit(f"There is no folder {root}: check --input.")

    found = set()
    for name in list_files(root):
        path = Path(name)
        if any(part.startswith(".") for part in path.parts):
            continue
        if name.lower().endswith(VIDEO_SUFFIXES):
            found.add(name)
        elif name.lower().endswith(FRAME_SUFFIXES) and path.parent != Path():
            found.add(path.parent.as_posix())
    if not found:
        raise SystemExit(f"{root} holds no video, GIF or folder of frame images.")
    return sorted(found)


def read_metadata(root: Path) -> tuple[str, dict[str, dict]] | None:
    """The metadata file's name, and its rows by file name; None where there is no such file."""
    for name in ("metadata.csv", "metadata.jsonl"):
        path = root / name
        if not path.is_file():
            continue
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                rows = (
                    list(csv.DictReader(file))
                    if name.endswith("csv")
                    else [json.loads(line) for line in file if line.strip()]
                )
            return name, {str(Path(row[COLUMN]).as_posix()): row for row in rows}
        except (KeyError, TypeError):
            raise SystemExit(
                f"{path} has a row without {COLUMN!r}: each must name its video, relative to {root}."
            ) from None
        except (ValueError, csv.Error) as error:
            raise SystemExit(f"{path} cannot be read ({error}): is it UTF-8 and whole?") from error
    return None


def labels_of(source: str, names: list[str], metadata: tuple[str, dict[str, dict]] | None) -> dict[str, str]:
    """Raises ValueError, saying what is missing."""
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
    path = root / clip.source
    if fps and path.is_file() and path.suffix.lower() != ".gif":
        video = SeekableVideo(path)
        frames = video.frames_at(video.indices_at_rate(fps))
    else:
        frames = open_source(path, f"'{clip.source}'")
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


def make_plan(args) -> Plan:
    metadata = read_metadata(args.input) if args.labels else None
    labelled, skipped = {}, {}
    for source in find_clips(args.input):
        try:
            labelled[source] = labels_of(source, args.labels, metadata)
        except ValueError as error:
            skipped[source] = str(error)
    if metadata:
        skipped |= {
            name: f"is listed in {metadata[0]} but not there" for name in metadata[1] if name not in labelled | skipped
        }
    if not labelled:
        raise SystemExit("\n".join(["Not one clip has its labels:", *reasons(skipped)]))
    num_test = max(1, round(args.test_fraction * len(labelled)))
    test = random_test_ids(list(labelled), num_test, args.seed)
    return Plan(
        [Clip(source, source, "test" if source in test else "train", labels) for source, labels in labelled.items()],
        functools.partial(read_clip, root=args.input.absolute(), size=args.size, grey=args.grey, fps=args.fps),
        (args.size, args.size, 1 if args.grey else 3),
        {name: sorted({labels[name] for labels in labelled.values()}) for name in args.labels},
        f"{num_test} test clips at random by clip, numpy.random.RandomState({args.seed}) over the sorted file names",
        description=f"Videos of the folder {args.input.resolve().name}.",
        skipped=skipped,
    )


def main(argv=None) -> None:
    args = parse_args(argv)
    prepare(make_plan(args), args.output_dir, args.num_workers)


if __name__ == "__main__":
    main()
