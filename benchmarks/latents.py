"""Time, memory and PSNR of DiViD on pixels and on latents; each case in a process of its own, one after the other.

python benchmarks/latents.py
python benchmarks/latents.py --vae outputs/vae --dataset data/faces --ceilings
python benchmarks/latents.py --vae outputs/vae --dataset data/faces --train_minutes 5

The first measures time and memory, for which weights are random. The second asks how good a clip can get on latents,
and by frames of 64 pixels that are enlarged, which cost as much; the third how good it gets in equal time.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch


TRAINING = Path(__file__).parents[1] / "training"
CASES = {  # size of a frame, side of a patch: None where the model works on latents
    "pixels, 64 px": (64, 4),
    "pixels, 128 px": (128, 4),
    "pixels, 128 px, patches of 8": (128, 8),
    "latents, 128 px": (128, None),
    "latents, 256 px": (256, None),
}
BATCH, FRAMES = 8, 10
COSTS = ("parameters", "step", "kept", "swap", "autoencoder", "GiB")
PSNRS = ("psnr", "best", "still")


def build(case: str, vae_path: str | None, clips):
    """The recipe of train_divid.py for a case, and the flags of its run."""
    from train_divid import DiViDRecipe, patch_of_latents, without_pixels
    from trainer.arguments import parse_args
    from trainer.clips import some_clips
    from trainer.on_latents import Latents, load_vae, measured_latents

    from divid_diffusers import SharedNoiseDDPMScheduler, build_models
    from divid_diffusers.training.calibration import calibrate

    size, patch = CASES[case]
    args = parse_args([f"--train_batch_size={BATCH}", f"--num_frames={FRAMES}"])
    without_pixels(args)  # in every case: these would not be compared
    latents, shape = None, (3, size)
    if patch is None:
        vae = load_vae(vae_path) if vae_path else new_vae()
        latents = Latents(vae) if clips is None else measured_latents(vae, clips, args)
        shape = latents.shape_of(shape, case)
        patch = patch_of_latents("tiny", shape[1])
    options = {"prediction_type": "sample", "pixel_shortcut": True, "shrink_input": True, "patch_size": patch}
    encoder, unet = build_models("tiny", *shape, **options)
    if clips is not None:
        some = some_clips(clips, args, count=16)
        calibrate(encoder, some if latents is None else latents.encode(some))
    noise_scheduler = SharedNoiseDDPMScheduler(prediction_type="sample", clip_sample=latents is None)
    return DiViDRecipe(encoder, unet, noise_scheduler, args, latents), args


def new_vae():
    from train_vae import parse_args, untrained

    return untrained(parse_args(["--dataset=puppets", "--output_dir=none"])).eval()


def open_sets(dataset: str, size: int):
    from trainer.clips import open_clips

    args = argparse.Namespace(
        dataset=dataset, num_frames=FRAMES, num_validation_clips=20, puppet_size=size, num_puppets=10_000
    )
    train, held_out, _ = open_clips(args)
    return train, held_out


def costs(recipe) -> dict[str, float]:
    """Seconds of a training step, of a step on latents that were computed before, of the autoencoder, of a swap."""
    size = recipe.pipeline(recipe.module).frame_shape[1]
    clips = torch.rand(BATCH, FRAMES, 3, size, size) * 2 - 1
    pipe = recipe.pipeline(recipe.module.eval())
    pipe.set_progress_bar_config(disable=True)
    found = {"swap": median(lambda: pipe.swap(clips[:1], clips[1:2], output_type="pt"), 3)}
    if recipe.latents is not None:
        frames = clips[0]
        found["encode"] = median(lambda: recipe.latents.encode(frames), 3)
        encoded = recipe.latents.encode(frames)
        found["decode"] = median(lambda: pipe.decode_frames(encoded), 3)
    recipe.module.train()
    step = stepper(recipe)
    found["step"] = median(lambda: step(clips), 3)
    if recipe.latents is not None:
        kept, recipe.args.cache_latents = recipe.latents.encode(clips), "a folder"
        found["kept"] = median(lambda: step(kept), 3)
    found["GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found["parameters"] = sum(each.numel() for each in recipe.module.parameters()) / 1e6
    return found


def median(call, times: int) -> float:
    """In CPU time, which other programs on the machine change little."""
    seconds = []
    for _ in range(times + 1):  # the first allocates
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return sorted(seconds[1:])[times // 2]


def stepper(recipe, learning_rate: float = 1e-3):
    from trainer.recipe import BatchPosition

    optimizer = torch.optim.AdamW(recipe.module.parameters(), learning_rate, betas=(0.9, 0.99))
    done = 0

    def step(clips: torch.Tensor, share: float = 0.0) -> None:
        nonlocal done
        optimizer.param_groups[0]["lr"] = learning_rate * min(1, (done + 1) / 50) * (1 - share**2)
        recipe.losses(recipe.module, clips, BatchPosition(done, 0, 0, 1))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(recipe.module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        done += 1

    return step


def quality(recipe, args, train, held_out, minutes: float) -> dict[str, float]:
    """PSNR in dB of reconstructions of validation clips after so many minutes of CPU time, and the steps in it."""
    from trainer.clips import some_clips, to_model_range

    from divid_diffusers.data.sampling import ResumableBatchSampler, SampledClips
    from divid_diffusers.evaluation.reconstruction import psnr

    data, step = SampledClips(train, FRAMES, args.seed), stepper(recipe)
    batches = iter(ResumableBatchSampler(len(train), BATCH, args.seed))
    start, steps = time.process_time(), 0
    while (share := (time.process_time() - start) / 60 / minutes) < 1:
        step(to_model_range(torch.stack([data[position] for position in next(batches)])), share)
        steps += 1
    pipe = recipe.pipeline(recipe.module.eval())
    pipe.set_progress_bar_config(disable=True)
    clips = some_clips(held_out, args, count=20)
    generator = torch.Generator().manual_seed(0)
    truth, decoded = clips / 2 + 0.5, pipe.reconstruct(clips, generator=generator, output_type="pt").frames
    found = {"steps": steps, "psnr": psnr(truth, decoded).mean().item()}
    found["still"] = psnr(truth, truth[:, :1].expand_as(truth)).mean().item()
    if recipe.latents is not None:
        frames = pipe.decode_frames(recipe.latents.encode(clips.flatten(0, 1))).clamp(-1, 1).view_as(clips)
        found["best"] = psnr(truth, frames / 2 + 0.5).mean().item()
    return found


def ceilings(vae_path: str, dataset: str) -> None:
    """PSNR of validation frames that only go through the autoencoder, or through 64 pixels a side and back."""
    from trainer.clips import some_clips
    from trainer.on_latents import Latents, load_vae

    from divid_diffusers.clips.processor import crop_and_resize
    from divid_diffusers.evaluation.reconstruction import psnr
    from divid_diffusers.pipelines.latents import from_latents

    _, held_out = open_sets(dataset, 128)
    clips = some_clips(held_out, argparse.Namespace(num_frames=FRAMES), count=20)
    vae, size = load_vae(vae_path), clips.shape[-1]
    decoded = from_latents(vae, Latents(vae).encode(clips.flatten(0, 1))).view_as(clips).clamp(-1, 1)
    enlarged = crop_and_resize(crop_and_resize(clips, 64, 64), size, size)
    of_latents, of_pixels = (psnr(clips / 2 + 0.5, each / 2 + 0.5).mean().item() for each in (decoded, enlarged))
    print(
        f"{Path(dataset).name}, {len(clips)} validation clips of {size} px: through the autoencoder "
        f"{of_latents:.1f} dB, through 64 px and enlarged {of_pixels:.1f} dB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--vae", help="Of train_vae.py, or any other autoencoder.")
    parser.add_argument("--dataset", default="puppets", help="To train on: puppets, or a prepared set of 128 pixels.")
    parser.add_argument("--train_minutes", type=float, help="Of CPU time, for each of the two cases of equal cost.")
    parser.add_argument("--ceilings", action="store_true", help="PSNR without any model.")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # of a process
    args = parser.parse_args()
    if args.ceilings:
        if not args.vae:
            parser.error("--ceilings are those of an autoencoder: give --vae.")
        sys.path.insert(0, str(TRAINING))
        ceilings(args.vae, args.dataset)
        return
    if args.case:
        torch.manual_seed(0)
        torch.set_flush_denormal(True)
        if args.train_minutes:
            train, held_out = open_sets(args.dataset, CASES[args.case][0])
            recipe, flags = build(args.case, args.vae, train)
            print(json.dumps(quality(recipe, flags, train, held_out, args.train_minutes)))
        else:
            print(json.dumps(costs(build(args.case, args.vae, None)[0])))
        return
    print(f"{platform.machine()}, torch {torch.__version__}, one thread; {BATCH} clips of {FRAMES} frames a step\n")
    if args.train_minutes:
        print("| | steps | PSNR of reconstructions, dB | of the autoencoder alone | of the first frame, repeated |")
        print("|---" * 5 + "|")
        for case in ("pixels, 128 px, patches of 8", "latents, 128 px"):
            found = measured(args, case)
            cells = [f"{found['steps']}", *(f"{found[name]:.2f}" if name in found else "" for name in PSNRS)]
            print(f"| {case} | {' | '.join(cells)} |", flush=True)
        return
    print("| | M parameters | training step, s | on kept latents, s | swap, s | autoencoder in it, s | peak, GiB |")
    print("|---" * 7 + "|")
    for case in CASES:
        found = measured(args, case)
        if "encode" in found:
            found["autoencoder"] = 2 * found["encode"] + found["decode"]
        cells = [f"{found[name]:.2f}" if name in found else "" for name in COSTS]
        print(f"| {case} | {' | '.join(cells)} |", flush=True)


def measured(args, case: str) -> dict[str, float]:
    command = [sys.executable, __file__, f"--case={case}", f"--dataset={args.dataset}"]
    command += [f"--vae={args.vae}"] if args.vae else []
    command += [f"--train_minutes={args.train_minutes}"] if args.train_minutes else []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path_of_training()}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def path_of_training() -> str:
    return os.pathsep.join(filter(None, [str(TRAINING), os.environ.get("PYTHONPATH")]))


if __name__ == "__main__":
    main()
