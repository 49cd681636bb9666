"""Prepare Sprites (Li & Mandt, 2018): 1,296 pixel-art characters x 9 actions = 11,664 clips of 8 frames, 64x64 RGB.

A character is a choice of body, trousers, top and hair, six of each; an action is a walk, a spell or a slash, seen
from the front, the left or the right. So who is seen and what they do are known exactly, which makes this the usual
first test of static/dynamic disentanglement. The clips are not distributed as such: they are composed here, pixel for
pixel as the authors' scripts do, from the sprite sheets of the Liberated Pixel Cup. The split is the published one, by
character: 296 for test, and of the 1,000 for training the last 100 of the permutation for validation (our choice).

Fetch the sheets (25 files, under 1 MB) and make the set (under a minute, about 1.2 GB, twice that while it is made):

    python training/prepare/sprites.py --download --output_dir data/sprites

Or, with a clone of https://github.com/YingzhenLi/Sprites and no network:

    python training/prepare/sprites.py --lpc_dir Sprites --output_dir data/sprites

The art is CC-BY-SA 3.0 or GPL 3.0, and so is the set: whoever passes it on credits the Liberated Pixel Cup artists and
Li & Mandt.
"""

import functools
import io
from http.client import HTTPException
from itertools import product
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from PIL import Image
from preparation import Clip, Plan, given_path, parser_for, prepare

from divid_diffusers.clips.writing import written_whole


# At a fixed commit, so that the set stays what it is.
SHEETS_URL = "https://raw.githubusercontent.com/YingzhenLi/Sprites/3ce4048c5227802bd8f1888e293fd3afdba91c0c"
TIMEOUT = 30  # seconds

CELL, SHEET_COLUMNS, SHEET_ROWS = 64, 13, 21
LAYERS = {"body": "body", "bottom": "bottomwear", "top": "topwear", "hair": "hair"}  # label: folder; lowest first
SHOES = "shoes/1"  # on top of them; everyone wears the same
VARIANTS = 6  # of each layer
NUM_CHARACTERS = VARIANTS ** len(LAYERS)
SHEETS = [f"{folder}/{number}" for folder in LAYERS.values() for number in range(VARIANTS)] + [SHOES]

# A motion is four rows of a sheet from `first row` on; its frames are these columns, eight of them with repeats.
MOTIONS = {
    "walk": (8, [8, 1, 2, 3, 4, 5, 6, 7]),
    "spellcast": (0, [0, 1, 2, 3, 4, 5, 4, 6]),
    "slash": (12, [0, 1, 2, 3, 4, 5, 4, 0]),
}
VIEWS = {"front": 2, "left": 1, "right": 3}  # the row within a motion; row 0 is the back, which the set leaves out
ACTIONS = [f"{motion}_{view}" for motion, view in product(MOTIONS, VIEWS)]  # numbered as the authors' loader does

NUM_TRAIN, NUM_VALIDATION, SEED = 1000, 100, 423  # the first, of which the last are held out; published, but for those
CITATION = "Li and Mandt: Disentangled Sequential Autoencoder. ICML 2018."


def parse_args(argv=None):
    parser = parser_for(__doc__)
    parser.add_argument(
        "--lpc_dir",
        type=given_path,
        help="Folder of the sheets: body/, bottomwear/, topwear/, hair/ and shoes/ with their PNGs.",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="Fetch the sheets that are not there yet, into --lpc_dir if given, else into <output_dir>_lpc_sheets.",
    )
    args = parser.parse_args(argv)
    if not (args.lpc_dir or args.download):
        parser.error("give the folder of the sheets as --lpc_dir, or fetch them with --download.")
    if not args.lpc_dir:
        output_dir = args.output_dir.absolute()
        args.lpc_dir = output_dir.with_name(f"{output_dir.name}_lpc_sheets")
    return args


def main(argv=None):
    args = parse_args(argv)
    if args.download:
        download(args.lpc_dir)
    prepare(make_plan(args.lpc_dir), args.output_dir, args.num_workers)


def download(lpc_dir: Path) -> None:
    """Fetch what is missing. A file is kept only once it is a whole sheet, so a stopped download goes on."""
    missing = [sheet for sheet in SHEETS if not (lpc_dir / f"{sheet}.png").exists()]
    if missing:
        print(f"Fetching {len(missing)} sheets into {lpc_dir}.")
    for sheet in missing:
        url, path = f"{SHEETS_URL}/{sheet}.png", lpc_dir / f"{sheet}.png"
        try:
            with urlopen(url, timeout=TIMEOUT) as response:
                content = response.read()
            decode(content)
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as partial:
                partial.write_bytes(content)
        except (OSError, HTTPException, ValueError) as error:
            raise SystemExit(
                f"Cannot fetch {url} into {lpc_dir}: {error}. Run the command again, or clone "
                "https://github.com/YingzhenLi/Sprites and give its folder as --lpc_dir."
            ) from error


def make_plan(lpc_dir: Path) -> Plan:
    """The standard set. Raises SystemExit where a sheet is missing or bad."""
    lpc_dir = lpc_dir.absolute()
    if not lpc_dir.is_dir():
        raise SystemExit(f"There is no folder {lpc_dir}: check --lpc_dir, or add --download to fetch the sheets.")
    if missing := [f"{sheet}.png" for sheet in SHEETS if not (lpc_dir / f"{sheet}.png").exists()]:
        raise SystemExit(f"{lpc_dir} lacks {', '.join(missing)}: check --lpc_dir, or add --download to fetch them.")
    try:
        load_strips(lpc_dir)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    names = {"identity": [f"{number:04d}" for number in range(NUM_CHARACTERS)], "action": ACTIONS}
    names |= {label: [str(choice) for choice in range(VARIANTS)] for label in LAYERS}
    return Plan(
        clips=make_clips(),
        read=functools.partial(read_clip, lpc_dir=lpc_dir),
        shape=(CELL, CELL, 3),
        labels=names,
        split_rule=f"by character, as published: numpy.random.RandomState({SEED}).permutation({NUM_CHARACTERS}), "
        f"first {NUM_TRAIN} train, of which the last {NUM_VALIDATION} validation",
        description="Sprites (Li & Mandt, 2018), composed from sprite sheets of the Liberated Pixel Cup "
        "(https://lpc.opengameart.org) as collected in https://github.com/YingzhenLi/Sprites.",
        license="CC-BY-SA 3.0 or GPL 3.0; credit the Liberated Pixel Cup artists and Li & Mandt (2018)",
        citation=CITATION,
    )


def make_clips() -> list[Clip]:
    """Every character in turn, its actions one after the other."""
    order = np.random.RandomState(SEED).permutation(NUM_CHARACTERS).tolist()
    splits = dict.fromkeys(order, "test") | dict.fromkeys(order[:NUM_TRAIN], "train")
    splits |= dict.fromkeys(order[NUM_TRAIN - NUM_VALIDATION : NUM_TRAIN], "validation")
    clips = []
    # A character's number is its choices, read as the digits of a number to base 6.
    for number, choices in enumerate(product(range(VARIANTS), repeat=len(LAYERS))):
        source = "+".join(f"{folder}/{choice}" for folder, choice in zip(LAYERS.values(), choices))
        parts = {label: str(choice) for label, choice in zip(LAYERS, choices)}
        for action in ACTIONS:
            labels = {"identity": f"{number:04d}", "action": action} | parts
            clips.append(Clip(f"c{number:04d}_{action}", source, splits[number], labels))
    return clips


def read_clip(clip: Clip, lpc_dir: Path) -> np.ndarray:
    strips, action = load_strips(lpc_dir), ACTIONS.index(clip.labels["action"])
    picture = Image.new("RGBA", strips[SHOES][action].size, "black")
    # A few pixels of topwear/3 are neither clear nor opaque: pasting by mask is not enough, and Pillow rounds as the
    # authors' did.
    for sheet in [*(f"{folder}/{clip.labels[label]}" for label, folder in LAYERS.items()), SHOES]:
        picture = Image.alpha_composite(picture, strips[sheet][action])
    return np.asarray(picture.convert("RGB")).reshape(-1, CELL, CELL, 3)


@functools.lru_cache(maxsize=1)  # once in each process
def load_strips(lpc_dir: Path) -> dict[str, list[Image.Image]]:
    """For each sheet and action, the eight frames as one picture, one below the other."""
    strips = {}
    for sheet in SHEETS:
        path = lpc_dir / f"{sheet}.png"
        try:
            pixels = np.asarray(decode(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise ValueError(f"Cannot use {path}: {error}. Delete it and fetch it anew with --download.") from error
        cells = pixels.reshape(SHEET_ROWS, CELL, SHEET_COLUMNS, CELL, 4).swapaxes(1, 2)
        strips[sheet] = [
            Image.fromarray(cells[first_row + view, columns].reshape(-1, CELL, 4))
            for (first_row, columns), view in product(MOTIONS.values(), VIEWS.values())
        ]
    return strips


def decode(content: bytes) -> Image.Image:
    """The sheet in a PNG file, as RGBA. Raises ValueError with what is wrong with it."""
    try:
        Image.open(io.BytesIO(content), formats=["PNG"]).verify()  # checksums, which decoding alone does not look at
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            mode = "RGBA" if "transparency" in image.info else image.mode  # most sheets are indexed
            sheet = image.convert("RGBA")
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise ValueError("it is not a whole PNG file") from error
    if sheet.size != (SHEET_COLUMNS * CELL, SHEET_ROWS * CELL):
        raise ValueError(f"it is {sheet.width}x{sheet.height} pixels, not {SHEET_COLUMNS * CELL}x{SHEET_ROWS * CELL}")
    if mode != "RGBA":
        raise ValueError(f"it is {mode} without transparency and would hide the layers below")
    return sheet


if __name__ == "__main__":
    main()
