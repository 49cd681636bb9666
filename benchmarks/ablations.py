"""What each choice of `tiny` buys: short Puppets runs that differ in one thing, scored against the true swaps.

python benchmarks/ablations.py --steps 500 --variants base "motion_weight=0"
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from diffusers import DDIMScheduler


sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

import step_noise  # noqa: E402
from arguments import parse_args  # noqa: E402
from objective import Trainee, objective  # noqa: E402

from divid_diffusers import DiViDPipeline, SharedNoiseDDPMScheduler, build_models  # noqa: E402
from divid_diffusers.data.puppets import Puppets  # noqa: E402
from divid_diffusers.data.sampling import ResumableBatchSampler  # noqa: E402
from divid_diffusers.evaluation.puppet_swap import score_swaps  # noqa: E402
from divid_diffusers.evaluation.reconstruction import motion_error, psnr  # noqa: E402


CONFIG = Path(__file__).parents[1] / "training/configs/tiny_puppets.yaml"
MODEL_FIELDS = (
    "prediction_type",
    "pixel_shortcut",
    "token_modulation",
    "position_embedding",
    "static_dropout",
    "dynamic_dropout",
)


def train(variant: dict[str, str], steps: int, clips: torch.Tensor) -> tuple[DiViDPipeline, float]:
    """A pipeline trained for `steps` with the config of the embedded checkpoint, but for `variant`; and minutes."""
    overrides = {
        name: value for name, value in variant.items() if name not in ("token_modulation", "position_embedding")
    }
    flags = [part for name, value in overrides.items() for part in (f"--{name}", value)]
    args = parse_args(["--config", str(CONFIG), "--max_train_steps", str(steps), *flags])
    torch.manual_seed(args.seed)
    fields = {name: getattr(args, name) for name in MODEL_FIELDS if hasattr(args, name)}
    fields |= {name: value == "true" for name, value in variant.items() if name not in overrides}
    encoder, unet = build_models("tiny", **fields)
    scheduler = SharedNoiseDDPMScheduler(prediction_type=args.prediction_type)
    model = Trainee(encoder, unet).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, betas=(0.9, args.adam_beta2))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.learning_rate, total_steps=steps, pct_start=0.1)
    batches = iter(ResumableBatchSampler(len(clips), args.train_batch_size, args.seed))
    start = time.perf_counter()
    for step in range(steps):
        batch = clips[[position % len(clips) for position in next(batches)]].float() / 127.5 - 1
        noise = step_noise.draw(args, step, 0, 0, 1, 3, 64, 1000)
        objective(model, batch, noise, scheduler, args).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    minutes = (time.perf_counter() - start) / 60
    sampler = DDIMScheduler.from_config(scheduler.config, timestep_spacing="trailing")
    return DiViDPipeline(encoder.eval(), unet.eval(), sampler, args.num_inference_steps), minutes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--num_test_clips", type=int, default=32)
    parser.add_argument("--variants", nargs="+", default=["base"], help="'base', or 'flag=value,flag=value'.")
    args = parser.parse_args()
    torch.set_flush_denormal(True)

    train_set = Puppets(4000)
    clips = torch.stack([train_set[i]["frames"] for i in range(len(train_set))])
    test = [Puppets(args.num_test_clips, split="test")[i] for i in range(args.num_test_clips)]
    truth = torch.stack([clip["frames"] for clip in test]) / 255
    donors = test[1:] + test[:1]

    print(f"{args.steps} steps, {args.num_test_clips} held-out clips, one seed\n")
    print("| variant | min | PSNR, dB | motion error | swap: PSNR, dB | identity kept | motion kept |")
    print("|---|---|---|---|---|---|---|")
    for name in args.variants:
        variant = {} if name == "base" else dict(part.split("=") for part in name.split(","))
        pipe, minutes = train(variant, args.steps, clips)
        pipe.set_progress_bar_config(disable=True)
        tokens = pipe.encode(truth)
        decode = [
            pipe(static, tokens.dynamic, generator=torch.Generator().manual_seed(0), output_type="pt").frames
            for static in (tokens.static, tokens.static.roll(-1, dims=0))
        ]
        swap = score_swaps(decode[1], donors, test)
        print(
            f"| {name} | {minutes:.1f} | {psnr(truth, decode[0]).mean():.2f} | {motion_error(truth, decode[0]).mean():.3f} "
            f"| {swap.psnr:.2f} | {swap.identity_kept:.0%} | {swap.motion_kept:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
