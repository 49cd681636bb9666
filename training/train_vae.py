"""Train a small autoencoder on frames of one or more sets, for DiViD to work on its latents (docs/latents.md).

    python training/train_vae.py --dataset data/faces puppets --size 128 --output_dir outputs/vae

It is diffusers' `AutoencoderTiny`, trained on the squared error of crops and nothing else: sharp in PSNR, soft to the
eye where it cannot know. For anything public take a pretrained one. The run makes no choice: the last weights,
averaged, are the ones that are kept, with PSNR on validation frames in training.json. A stopped run starts anew; it is
short.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from tqdm.auto import tqdm
from trainer.checkpoints import all_finite
from trainer.checks import check
from trainer.start import open_for_one_model

from divid_diffusers.clips.processor import crop_and_resize
from divid_diffusers.data.held_out import PUPPETS_SEED
from divid_diffusers.data.prepared import load_training_clips
from divid_diffusers.data.puppets import SETS, Puppets
from divid_diffusers.data.sampling import draw_clips
from divid_diffusers.evaluation.reconstruction import psnr
from divid_diffusers.flags import SEED, whole
from divid_diffusers.pipelines.latents import from_latents, scale_factor, statistics, to_latents


BLOCKS = {4: (0, 1, 2), 8: (0, 1, 2, 2)}  # of each level, by factor: none at full size, where they cost most
FRAMES_OF_A_CLIP, HELD_OUT, CROP, WARM_UP = 4, 200, 64, 0.02


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--dataset", nargs="+", required=True, help=f"Folders that training/prepare/*.py wrote, or {', '.join(SETS)}."
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--size", type=whole(CROP), default=128, help="Frames are cropped and resized to it.")
    parser.add_argument("--factor", type=int, choices=BLOCKS, default=4, help="Latents are so much smaller.")
    parser.add_argument("--latent_channels", type=whole(1), default=4)
    parser.add_argument("--width", type=whole(1), default=32, help="Channels of every layer.")
    parser.add_argument("--num_clips", type=whole(1), default=1000, help="Of each set, at most, kept in memory.")
    parser.add_argument("--max_train_minutes", type=float, default=20.0, help="The learning rate falls as they pass.")
    parser.add_argument("--max_train_steps", type=whole(1), help="In place of minutes.")
    parser.add_argument("--train_batch_size", type=whole(1), default=8, help=f"Crops of {CROP} pixels a side.")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=SEED, default=0)
    args = parser.parse_args(argv)
    check(parser, args)
    args.dataset = list(dict.fromkeys(args.dataset))
    return args


def open_set(name: str, args):
    """Training and validation clips. Test clips are never touched."""
    if name in SETS:
        options = SETS[name] | {"size": args.size}
        return Puppets(args.num_clips, **options), Puppets(HELD_OUT // FRAMES_OF_A_CLIP, PUPPETS_SEED, **options)
    try:
        train, held_out, sentence = load_training_clips(name)
    except ValueError as error:
        raise SystemExit(f"--dataset: {error}") from error
    if sentence:
        print(sentence)
    return train, held_out


def some_frames(clips, num_clips: int, args) -> torch.Tensor:
    """Random frames of clips drawn from all over the set, uint8 `(F, 3, size, size)`; grey ones as RGB."""
    rng = np.random.default_rng(args.seed)
    found = []
    for clip in tqdm(draw_clips(clips, num_clips, args.seed), desc="reading", unit="clip"):
        frames = clip["frames"]
        chosen = rng.choice(len(frames), min(FRAMES_OF_A_CLIP, len(frames)), replace=False)
        resized = crop_and_resize(frames[np.sort(chosen)].float(), args.size, args.size).round().byte()
        found.append(resized.expand(-1, 3, -1, -1))
    return torch.cat(found)


def draw_batch(sets: list[torch.Tensor], args, rng: np.random.Generator) -> torch.Tensor:
    """Crops `(B, 3, 64, 64)` in [-1, 1], of each set as many, half of them mirrored."""
    crops = []
    for number in range(args.train_batch_size):
        frames = sets[number % len(sets)]
        top, left = rng.integers(args.size - CROP + 1, size=2)
        crop = frames[rng.integers(len(frames)), :, top : top + CROP, left : left + CROP]
        crops.append(crop.flip(-1) if rng.random() < 0.5 else crop)
    return torch.stack(crops).float() / 127.5 - 1


def untrained(args) -> AutoencoderTiny:
    blocks = BLOCKS[args.factor]
    return AutoencoderTiny(
        encoder_block_out_channels=(args.width,) * len(blocks),
        decoder_block_out_channels=(args.width,) * len(blocks),
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks[::-1],
        latent_channels=args.latent_channels,
    )


def share_done(args, steps: int, seconds: float) -> float:
    return steps / args.max_train_steps if args.max_train_steps else seconds / 60 / args.max_train_minutes


def fit(vae: AutoencoderTiny, sets: list[torch.Tensor], args) -> int:
    """
    Train the autoencoder, and leave it with its averaged weights; returns the number of steps. Stops where anything is
    not finite.
    """
    vae.to(memory_format=torch.channels_last)  # faster on a CPU
    optimizer = torch.optim.AdamW(vae.parameters(), args.learning_rate, weight_decay=0)
    ema = EMAModel(vae.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
    rng, start, bar = np.random.default_rng(args.seed), time.monotonic(), tqdm(unit="step")
    while (done := share_done(args, bar.n, time.monotonic() - start)) < 1:
        # from above zero, and to zero
        optimizer.param_groups[0]["lr"] = args.learning_rate * min(1, 0.01 + done / WARM_UP) * (1 - done**2)
        crops = draw_batch(sets, args, rng).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
            decoded = vae.decode(vae.encode(crops).latents).sample
        loss = (decoded.float() - crops).square().mean()
        if not torch.isfinite(loss):
            raise SystemExit(f"The loss is not finite at step {bar.n + 1}: lower --learning_rate and train again.")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(vae.parameters())
        bar.update()
        bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    bar.close()
    ema.copy_to(vae.parameters())
    vae.to(memory_format=torch.contiguous_format)
    if not all_finite(vae.state_dict().values()):
        raise SystemExit(
            "What was learned is not finite, so nothing was saved: lower --learning_rate and train again."
        )
    return bar.n


@torch.no_grad()
def measure(vae: AutoencoderTiny, frames: torch.Tensor) -> float:
    """PSNR in dB, the mean over frames uint8 `(F, 3, H, W)`."""
    found = []
    for piece in frames.split(8):
        pixels = piece.float() / 127.5 - 1
        decoded = from_latents(vae, to_latents(vae, pixels)).clamp(-1, 1)
        found.append(psnr(pixels[:, None] / 2 + 0.5, decoded[:, None] / 2 + 0.5))
    return torch.cat(found).mean().item()


def save(vae: AutoencoderTiny, report: dict, output_dir: Path) -> None:
    """Whole or not at all: config.json, without which a folder is no model, is moved in last."""
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=output_dir) as scratch:
        vae.save_pretrained(scratch)
        (Path(scratch) / "training.json").write_text(json.dumps(report, indent=2, default=str) + "\n")
        for path in sorted(Path(scratch).iterdir(), key=lambda path: path.name == "config.json"):
            path.replace(output_dir / path.name)


def main(argv=None) -> None:
    args = parse_args(argv)
    if args.size % args.factor:
        raise SystemExit(
            f"--size is {args.size}, and latents are {args.factor} times smaller: give a multiple of {args.factor}."
        )
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)
    sets = {name: open_set(name, args) for name in args.dataset}
    held = open_for_one_model(args.output_dir)
    start = time.monotonic()
    train = [some_frames(clips, args.num_clips, args) for clips, _ in sets.values()]
    validation = {
        Path(name).name: some_frames(clips, HELD_OUT // FRAMES_OF_A_CLIP, args) for name, (_, clips) in sets.items()
    }
    vae = untrained(args).train()
    try:
        steps = fit(vae, train, args)
    except KeyboardInterrupt:
        raise SystemExit("Interrupted: an autoencoder is not resumed, and none was saved.") from None
    vae.half().float().eval()  # as it is saved
    found = {name: measure(vae, frames) for name, frames in validation.items()}
    with torch.no_grad():
        latents = torch.cat([to_latents(vae, frames[:64].float() / 127.5 - 1) for frames in train])
    told = statistics(latents)
    report = {
        "validation_psnr": {name: round(value, 2) for name, value in found.items()},
        "validation_frames": {name: len(frames) for name, frames in validation.items()},
        "steps": steps,
        "seconds": round(time.monotonic() - start, 1),
        **told,
        "arguments": vars(args) | {"output_dir": "", "dataset": [Path(name).name for name in args.dataset]},
    }
    try:
        save(vae.half(), report, args.output_dir)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise SystemExit(f"Not saved to {args.output_dir}: {error}. Make room, and train again.") from error
    if held:
        held.close()
    each = ", ".join(f"{value:.1f} dB on {len(validation[name])} of {name}" for name, value in found.items())
    millions = vae.num_parameters() / 1e6
    print(f"{millions:.2f} M parameters, latents {scale_factor(vae)} times smaller; validation frames: {each}.")


if __name__ == "__main__":
    main()
