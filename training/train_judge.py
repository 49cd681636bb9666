"""Train the judge that scores swaps: on real training clips only, then measured on real held-out ones.

    python training/train_judge.py --dataset data/mhad-depth --factors identity action \\
        --output_dir outputs/judge-mhad-depth

The judge prints its accuracy on validation clips, by which its settings are to be chosen. It is saved with that on the
test split in its config, on clips as they are, blurred and with noise, and prints it with every score it gives. The
run makes no choice: the last weights, averaged, are the ones that are kept. A stopped run starts anew; it is short.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from degrade import BLUR, NOISE, SHIFT, ZOOM, blurred, moved, noisy
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from torch.nn import functional as F
from tqdm.auto import tqdm
from trainer.batch_norm import settle_batch_norm
from trainer.checkpoints import all_finite
from trainer.checks import check
from trainer.start import open_for_one_model

from divid_diffusers.data.prepared import PreparedClips, load_clips, load_training_clips
from divid_diffusers.data.sampling import ResumableBatchSampler, evenly_spaced, sample_frame_indices
from divid_diffusers.evaluation.statistics import wilson_interval
from divid_diffusers.models.judge import KINDS, ClipJudge, shown


IN_CONFIG = {"test_accuracy": "real", "blurred_accuracy": "blurred", "noisy_accuracy": "noisy"}
WIDTHS = {"2d": {}, "3d": {"block_out_channels": (24, 48, 96, 128)}}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--dataset", required=True, help="A folder that training/prepare/*.py wrote, or such a set on the Hub."
    )
    parser.add_argument("--factors", nargs="+", default=["identity", "action"], help="Labels to name.")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument(
        "--pretrained_model_name_or_path",
        help="A judge of the same factors to go on from, of its kind and number of frames.",
    )
    parser.add_argument(
        "--kind", choices=KINDS, help="Frames, then a biLSTM, the default; or a convolution in space and time."
    )
    parser.add_argument("--num_frames", type=int, help="Frames per clip; 10 unless given.")
    parser.add_argument("--max_train_steps", type=int, default=2400)
    parser.add_argument("--train_batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--adam_weight_decay", type=float, default=0.05)
    parser.add_argument("--shift", type=int, default=2, help="Augmentation: pixels a clip is moved by, at most.")
    parser.add_argument("--zoom", type=float, default=0.04, help="Augmentation: how much larger or smaller, at most.")
    parser.add_argument(
        "--brightness", type=float, default=0.1, help="Augmentation: how much brighter or darker, at most."
    )
    parser.add_argument("--blur", type=float, default=BLUR, help="Augmentation: pixels of blur, at most.")
    parser.add_argument("--noise", type=float, default=NOISE, help="Augmentation: spread of the noise, at most.")
    parser.add_argument(
        "--moved_factors",
        nargs="+",
        default=[],
        help="Those of --factors that a swap performs in another place and size, e.g. action: asked of every second "
        "clip moved and zoomed by far, of which nothing else is asked.",
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    check(parser, args)
    if not args.pretrained_model_name_or_path:
        args.kind, args.num_frames = args.kind or "2d", args.num_frames or 10
    args.factors = list(dict.fromkeys(args.factors))
    unknown = [factor for factor in args.moved_factors if factor not in args.factors]
    if unknown:
        parser.error(f"--moved_factors: {', '.join(unknown)} is not among --factors {' '.join(args.factors)}.")
    if args.moved_factors and args.train_batch_size < 2:
        parser.error("--moved_factors moves every second clip of a batch: take a --train_batch_size of at least 2.")
    return args


def augment(clips: torch.Tensor, args, rng: np.random.Generator) -> torch.Tensor:
    """
    Clips `(B, N, C, H, W)` in [0, 1], each moved, zoomed, stretched and brightened as a whole, then blurred and made
    noisy as decoders do, half of them each. With `--moved_factors` every second one is moved and zoomed by far. Never
    mirrored: left and right are different actions.
    """
    batch = len(clips)
    far = torch.arange(batch) % 2 == 1 if args.moved_factors else torch.zeros(batch, dtype=torch.bool)

    def uniform(limit, *shape):
        return torch.from_numpy(rng.uniform(-1, 1, shape)).float() * limit

    zoom = torch.where(far, ZOOM, args.zoom)[:, None]
    zoom = 1 + uniform(zoom, batch, 1) + uniform(zoom / 3, batch, 2)
    changed = moved(clips, uniform(torch.where(far, float(SHIFT), args.shift)[:, None], batch, 2), zoom)
    # The black around a depth recording stays black, as it does on the sensor.
    changed = (changed * (1 + uniform(args.brightness, batch, 1, 1, 1, 1))).clamp(0, 1)
    if args.blur:
        changed = blurred(changed, uniform(args.blur, batch).clamp_min(0))
    if args.noise:
        seed = torch.Generator().manual_seed(int(rng.integers(2**31)))
        changed = noisy(changed, uniform(args.noise, batch).clamp_min(0), seed)
    return changed


def load_batch(clips: PreparedClips, positions, args) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Frames drawn at random in time order, a function of (seed, epoch, clip)."""
    items, frames = [], []
    for position in positions:
        epoch, index = divmod(position, len(clips))
        items.append(clips[index])
        whole = items[-1]["frames"]
        # Half of the clips evenly spaced, as the judge will see them, half at random.
        rng = np.random.default_rng((args.seed, epoch, index))
        rng = rng if rng.random() < 0.5 else None
        frames.append(whole[sample_frame_indices(len(whole), args.num_frames, rng, "uniform")])
    labels = {factor: torch.tensor([item[factor] for item in items]) for factor in args.factors}
    return torch.stack(frames).float() / 255, labels


def measure(judge: ClipJudge, clips: PreparedClips, args) -> dict[str, dict[str, list[float]]]:
    """
    Accuracy on real clips, on the same ones blurred, with noise, and in another place and size: per factor and all
    together, as [share, low, high, n].
    """
    every = [clips[index] for index in range(len(clips))]
    frames = evenly_spaced(every, args.num_frames).float() / 255
    place = torch.from_numpy(np.random.default_rng(args.seed).choice([-0.5, 0.5], (len(frames), 3))).float()
    seen = {
        "real": frames,
        "blurred": blurred(frames, torch.full((len(frames),), BLUR)),
        "noisy": noisy(frames, torch.full((len(frames),), NOISE), torch.Generator().manual_seed(args.seed)),
        "moved": moved(frames, SHIFT * place[:, :2], 1 + 2 * ZOOM * place[:, 2:].expand(-1, 2)),
    }
    truth = {factor: np.array([clip[factor] for clip in every]) for factor in args.factors}
    return {name: accuracy(judge.predict(each), truth) for name, each in seen.items()}


def accuracy(told: dict[str, torch.Tensor], truth: dict[str, np.ndarray]) -> dict[str, list[float]]:
    right = {factor: told[factor].argmax(-1).numpy() == labels for factor, labels in truth.items()}
    right["joint"] = np.all(list(right.values()), axis=0)
    return {
        name: [float(each.mean()), *wilson_interval(int(each.sum()), len(each)), len(each)]
        for name, each in right.items()
    }


def open_sets(args) -> dict[str, PreparedClips]:
    """Clips to train on, to validate on, and to test on, every one with a label of each factor."""
    try:
        train, validation, sentence = load_training_clips(args.dataset)
        sets = {"train": train, "validation": validation, "test": load_clips(args.dataset, "test")}
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if sentence:
        print(sentence)
    unknown = [factor for factor in args.factors if factor not in train.labels]
    if unknown:
        raise SystemExit(
            f"{args.dataset} has no labels of {', '.join(unknown)}, only of {', '.join(train.labels)}: see --factors."
        )
    for split, clips in sets.items():
        for factor in args.factors:
            labels = np.array(clips.dataset.with_format(None)[factor][:])
            wrong = np.flatnonzero((labels < 0) | (labels >= len(train.labels[factor])))
            if len(wrong):
                raise SystemExit(
                    f"{len(wrong)} of the {len(labels)} {split} clips of {args.dataset} have no {factor} (the first, "
                    f"number {wrong[0]}, is "
                    f"labelled {labels[wrong[0]]}): label them, leave them out of the set, or leave {factor} out of "
                    "--factors."
                )
    height, width, _ = train.shape
    if height != width:
        raise SystemExit(f"The frames of {args.dataset} are {height}x{width}: the judge takes square ones.")
    return sets


def main(argv=None) -> None:
    args = parse_args(argv)
    sets = open_sets(args)
    train = sets["train"]
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)
    height, _, channels = train.shape
    try:
        judge = start_from(args, train) or ClipJudge(
            {factor: train.labels[factor] for factor in args.factors},
            channels,
            height,
            num_frames=args.num_frames,
            dataset=Path(args.dataset).name,
            kind=args.kind,
            **WIDTHS[args.kind],
        )
    except (OSError, ValueError) as error:  # a factor of one class, no judge to go on from
        raise SystemExit(str(error)) from error
    judge.train()
    held = open_for_one_model(args.output_dir)
    start = time.monotonic()
    try:
        fit(judge, train, args)
    except KeyboardInterrupt:
        raise SystemExit("Interrupted: a judge is not resumed, and none was saved.") from None
    halve(judge)
    found = {split: measure(judge, sets[split], args) for split in ("validation", "test")}
    judge.register_to_config(**{name: found["test"][what] for name, what in IN_CONFIG.items()})
    report = {
        "seconds": round(time.monotonic() - start, 1),
        **found,
        "arguments": vars(args)
        | {
            "output_dir": "",
            "dataset": Path(args.dataset).name,
            "pretrained_model_name_or_path": Path(args.pretrained_model_name_or_path or "").name,
        },
    }
    try:
        save(judge, report, args.output_dir)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise SystemExit(
            f"The judge could not be saved to {args.output_dir}: {error}. Make room, and train again."
        ) from error
    if held:
        held.close()
    for what, accuracies in found["validation"].items():
        each = ", ".join(f"{factor} {shown(one)}" for factor, one in accuracies.items())
        print(f"on {len(sets['validation'])} {what} validation clips: {each}")
    print(judge.describe())


def start_from(args, train: PreparedClips) -> ClipJudge | None:
    """The judge to go on from, if there is one. Raises ValueError where it names other things."""
    if not args.pretrained_model_name_or_path:
        return None
    judge = ClipJudge.from_pretrained(args.pretrained_model_name_or_path)
    wanted = {factor: list(train.labels[factor]) for factor in args.factors}
    if {factor: list(names) for factor, names in judge.config.factors.items()} != wanted:
        raise ValueError(
            f"{args.pretrained_model_name_or_path} names {', '.join(judge.config.factors)} of "
            f"{judge.config.dataset or 'another set'}, not {', '.join(wanted)} of {args.dataset}: train a new judge."
        )
    for name in ("kind", "num_frames"):
        own = judge.config[name]
        if getattr(args, name) not in (None, own):
            raise ValueError(
                f"--{name} is {getattr(args, name)}, and that of {args.pretrained_model_name_or_path} is {own}: leave "
                "it out, or train a new judge."
            )
        setattr(args, name, own)
    judge.register_to_config(_name_or_path="")  # where it lay is nobody's business
    return judge


def fit(judge: ClipJudge, train: PreparedClips, args) -> None:
    """Train the judge, and leave it with its averaged weights. Stops where anything is not finite."""
    # Faster on a CPU; weights are saved in the common order.
    judge.to(memory_format=torch.channels_last if args.kind == "2d" else torch.channels_last_3d)
    optimizer = torch.optim.AdamW(judge.parameters(), args.learning_rate, weight_decay=args.adam_weight_decay)
    warm_up = 0.1 if args.max_train_steps > 10 else 0.0  # of one step it would divide by zero
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.learning_rate, args.max_train_steps, pct_start=warm_up
    )
    ema = EMAModel(judge.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
    batches = iter(ResumableBatchSampler(len(train), args.train_batch_size, args.seed))
    rng = np.random.default_rng(args.seed)
    near = slice(None, None, 2 if args.moved_factors else 1)  # the others are moved by far
    asked = {factor: slice(None) if factor in args.moved_factors else near for factor in args.factors}
    bar = tqdm(range(args.max_train_steps))
    for step in bar:
        clips, labels = load_batch(train, next(batches), args)
        with torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
            logits = judge(augment(clips, args, rng))
        loss = sum(
            F.cross_entropy(logits[factor][rows].float(), labels[factor][rows], label_smoothing=0.1)
            for factor, rows in asked.items()
        )
        refuse_broken(f"The loss at step {step + 1}", [loss])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        ema.step(judge.parameters())
        bar.set_postfix(loss=f"{loss.item():.3f}")
    ema.copy_to(judge.parameters())
    judge.to(memory_format=torch.contiguous_format)
    positions = iter(ResumableBatchSampler(len(train), args.train_batch_size, args.seed + 1))
    settle_batch_norm(judge, lambda number: judge(augment(load_batch(train, next(positions), args)[0], args, rng)))
    refuse_broken("What the judge learned", judge.state_dict().values())


def halve(judge: ClipJudge) -> None:
    """Rounds what it learned to the half precision it is saved in, so that what is measured is what is saved."""
    judge.half().float()


def refuse_broken(what: str, tensors) -> None:
    if not all_finite(tensors):
        raise SystemExit(f"{what} is not finite, so no judge was saved: lower --learning_rate and train again.")


def save(judge: ClipJudge, report: dict, output_dir: Path) -> None:
    """Whole or not at all: config.json, without which a folder is no judge, is moved in last."""
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=output_dir) as scratch:
        judge.half().save_pretrained(scratch)
        (Path(scratch) / "training.json").write_text(json.dumps(report, indent=2, default=str) + "\n")
        for path in sorted(Path(scratch).iterdir(), key=lambda path: path.name == "config.json"):
            path.replace(output_dir / path.name)


if __name__ == "__main__":
    main()
