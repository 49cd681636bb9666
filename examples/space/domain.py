"""
What a checkpoint says of itself, in its own repository: `space.json` and a folder `examples/`. The page reads both,
whatever checkpoint it shows. Without them it says that it does not know, and offers no examples.

    {"name": "DiViD on Puppets", "domain": "drawn people", "least_snr": 2.9, "least_snr_still": 2.6, "measured": "..."}

`least_snr` tells what is foreign: a model gives back what it was trained on, so a clip that comes back from its own
tokens worse than that is far from its domain; a still image has a measure of its own. They are measured on held-out
clips, and written with the rest, by

    python examples/space/domain.py outputs/run --dataset data/mine --name "DiViD on mine" --domain "my cats" --num_examples 6
"""

import argparse
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from PIL import Image
from tqdm.auto import tqdm

from divid_diffusers import ClipProcessor, DiViDPipeline
from divid_diffusers.clips.writing import written_whole
from divid_diffusers.data.prepared import load_clips
from divid_diffusers.data.puppets import MOTIONS, Puppets
from divid_diffusers.data.sampling import draw_clips, sample_frame_indices
from divid_diffusers.flags import SEED, whole


FILE, FOLDER = "space.json", "examples"
FRAMES, STEPS = 8, 5  # of the measurement: enough to tell a drawing from a face, and soon done
MARGIN = 0.5  # dB below the worst held-out clip: nobody's clip is the worst of so few
MAX_EXAMPLES = 12
MILLISECONDS = 125  # a frame of a written example


@dataclass(frozen=True)
class Domain:
    """
    Attributes:
        name: of the checkpoint, for people.
        domain: what it was trained on, to be read after "It knows"; empty if it does not say.
        least_snr, least_snr_still: [`own_snr`] below which a clip, or a still, is foreign, in dB; None if that was not
            measured.
        measured: how.
        examples: files of clips.
    """

    name: str
    domain: str = ""
    least_snr: float | None = None
    least_snr_still: float | None = None
    measured: str = ""
    examples: list[Path] = field(default_factory=list)

    def __post_init__(self):
        texts = (self.name, self.domain, self.measured)
        if not all(isinstance(text, str) for text in texts) or not self.name:
            raise ValueError("name, domain and measured are texts, and the name is not empty")
        for least in (self.least_snr, self.least_snr_still):
            if least is not None and not (isinstance(least, int | float) and math.isfinite(least)):
                raise ValueError(f"least_snr is {least!r}: it is a number of dB, or left out")

    def least(self, num_frames: int) -> float:
        """What a clip of so many frames has to reach."""
        least = self.least_snr_still if num_frames == 1 else self.least_snr
        return -math.inf if least is None else least


def read_domain(checkpoint: str) -> Domain:
    """
    What the checkpoint, a folder or a name on the Hub, says of itself.

    Raises:
        ValueError: its space.json is there and cannot be used.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(checkpoint, allow_patterns=[FILE, f"{FOLDER}/*"]))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
            return Domain(checkpoint.rpartition("/")[2])
    examples = sorted(path for path in (folder / FOLDER).glob("*") if path.is_file() and path.name[0] != ".")
    said = {"name": folder.absolute().name if folder == Path(checkpoint) else checkpoint.rpartition("/")[2]}
    try:
        if (folder / FILE).is_file():
            said |= dict(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        return Domain(**said, examples=examples[:MAX_EXAMPLES])
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{FILE} of {checkpoint} cannot be used ({error}): write it with domain.py.") from error


def own_snr(pipe: DiViDPipeline, clip: np.ndarray) -> float:
    r"""
    How well a clip comes back from its own tokens, decoded in a few steps, as a ratio of signal to noise in dB; always
    the same for the same clip. With the mean colour m of the clip (our choice of measure):

        10 log10( sum ||x - m||^2 / sum ||x - decoded||^2 )

    0 is what that one colour gets. Unlike the PSNR it does not flatter a face before a plain wall.

    Args:
        clip: uint8 `(N, H, W, 3)`, or `(N, H, W, 1)` of a grey set; of more than 8 frames, 8 evenly spaced ones count.
    """
    clip = clip[sample_frame_indices(len(clip), min(len(clip), FRAMES))]
    channels, size = pipe.frame_shape
    (truth,) = ClipProcessor().preprocess(clip, size, channels)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        tokens = pipe.encode(clip)
    options = {"num_inference_steps": STEPS, "generator": generator, "output_type": "pt"}
    (decoded,) = pipe(tokens.static, tokens.dynamic, **options).frames  # from tokens alone: a frame shown is not known
    signal = (
        truth - truth.mean(dim=(0, 2, 3), keepdim=True)
    ).square().mean() / 4  # of [-1, 1], where decoded is in [0, 1]
    noise = (truth / 2 + 0.5 - decoded.float().cpu()).square().mean()
    return 10 * math.log10(max(signal.item(), 1e-6) / max(noise.item(), 1e-6))


# --- the command ---------------------------------------------------------------------------------------------------


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("checkpoint", type=Path, help="Folder of a trained pipeline: the files are written into it.")
    parser.add_argument(
        "--dataset", required=True, help="puppets, or a set that prepare_*.py wrote, or one on the Hub."
    )
    parser.add_argument("--name", required=True, help="Of the checkpoint, for people.")
    parser.add_argument("--domain", required=True, help='What it knows: "It knows ...", without the full stop.')
    parser.add_argument("--num_clips", type=whole(5), default=100, help="Held-out clips that are measured.")
    parser.add_argument(
        "--num_examples", type=whole(0, MAX_EXAMPLES), default=0,
        help=f"Held-out clips that are copied into {FOLDER}/, at most {MAX_EXAMPLES}: only those you may pass on.",
    )  # fmt: skip
    parser.add_argument("--seed", type=SEED, default=0, help="Of the choice of clips.")
    args = parser.parse_args(argv)
    if not (args.checkpoint / "model_index.json").is_file():
        parser.error(f"{args.checkpoint} is no folder of a pipeline: it has no model_index.json.")
    if args.num_examples and any((args.checkpoint / FOLDER).glob("*")):
        parser.error(f"{args.checkpoint / FOLDER} is not empty: delete it, or leave out --num_examples to keep it.")
    return args


def held_out(dataset: str, count: int, seed: int) -> tuple[list[dict], list[str]]:
    """Clips, and the names of their actions; none if they have no such label."""
    if dataset == "puppets":
        return draw_clips(Puppets(count, seed, split="test"), count, seed), list(MOTIONS)
    clips = load_clips(dataset, "test")
    return draw_clips(clips, count, seed), clips.labels.get("action", [])


def to_array(item: dict) -> np.ndarray:
    return item["frames"].permute(0, 2, 3, 1).numpy()


def write_examples(folder: Path, items: list[dict], actions: list[str], count: int) -> None:
    """As animated WebP, without loss: a few kB each, and a browser shows them. As many actions as there are."""
    folder.mkdir(exist_ok=True)
    seen = Counter()
    rank = [seen.update([item.get("action")]) or seen[item.get("action")] for item in items]
    for number, place in enumerate(sorted(range(len(items)), key=rank.__getitem__)[:count], 1):
        item = items[place]
        name = f"clip_{number}" + (f"_{actions[item['action']]}" if actions else "")
        frames = [Image.fromarray(frame.squeeze()).convert("RGB") for frame in to_array(item)]
        frames[0].save(
            folder / f"{name}.webp", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0, lossless=True
        )  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        items, actions = held_out(args.dataset, args.num_clips, args.seed)
        pipe = DiViDPipeline.from_pretrained(args.checkpoint)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    pipe.set_progress_bar_config(disable=True)
    clips = [to_array(item) for item in items]
    rng = np.random.default_rng(args.seed)
    stills = [clip[[rng.integers(len(clip))]] for clip in clips]
    found = [(own_snr(pipe, clip), own_snr(pipe, still)) for clip, still in zip(tqdm(clips, unit="clip"), stills)]
    (worst, worst_still), (median, _) = np.min(found, axis=0), np.median(found, axis=0)
    said = {
        "name": args.name,
        "domain": args.domain,
        "least_snr": round(worst - MARGIN, 1),
        "least_snr_still": round(worst_still - MARGIN, 1),
        "measured": f"{MARGIN} dB below the worst of {len(items)} held-out clips ({worst:.1f} dB; median "
        f"{median:.1f}), {FRAMES} frames "
        f"of each decoded from its own tokens in {STEPS} steps, and of a frame of each: domain.py --dataset "
        f"{Path(args.dataset).name} --num_clips {args.num_clips} --seed {args.seed}",
    }
    Domain(**said)
    with written_whole(args.checkpoint / FILE) as partial:
        partial.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if args.num_examples:
        write_examples(args.checkpoint / FOLDER, items, actions, args.num_examples)
    print(json.dumps(said, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
