"""The training loop: resumable to the bit, averaged weights, budgets, logs. What is trained, and on which loss, is a `Recipe`."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from tqdm.auto import tqdm

from divid_diffusers.data.sampling import ResumableBatchSampler, SampledClips

from . import checkpoints
from .clips import some_clips, to_model_range
from .progress import Progress
from .recipe import BatchPosition, Recipe
from .reporting import Meter, report_validation
from .resume import resume
from .saving import save_pipeline


def train(accelerator: Accelerator, recipe: Recipe, train_clips: Sequence, held_out_clips: Sequence, args) -> None:
    """Train, and leave a pipeline with its card in `--output_dir`; clips as `clips.open_clips` gives them."""
    output_dir = Path(args.output_dir)
    model = recipe.module.train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        weight_decay=args.adam_weight_decay,
        fused=True,
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
        accelerator.init_trackers(recipe.name, config=flags)
    if args.resume_from_checkpoint:
        resume(accelerator, args.resume_from_checkpoint, output_dir, progress)

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
    meter = Meter(accelerator)
    figures = {}
    last_time, last_cpu_time = time.monotonic(), time.process_time()
    bar = tqdm(total=args.max_train_steps, initial=progress.step, disable=not accelerator.is_local_main_process)

    for number, frames in enumerate(loader):
        if progress.step >= args.max_train_steps or progress.out_of_time(args.max_train_minutes, accelerator):
            break
        position = BatchPosition(
            progress.step,
            number % args.gradient_accumulation_steps,
            accelerator.process_index,
            accelerator.num_processes,
        )
        with accelerator.accumulate(model):
            losses = recipe.losses(model, to_model_range(frames.to(accelerator.device)), position)
            if not torch.isfinite(losses["loss"]):  # before it reaches the weights
                raise SystemExit(
                    f"The loss is {losses['loss'].item()} at step {progress.step + 1}: lower --learning_rate and resume from the "
                    "last checkpoint."
                )
            accelerator.backward(losses["loss"])
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        meter.add(losses)

        if not accelerator.sync_gradients:
            continue
        lr_scheduler.step()
        ema.step(model.parameters())
        progress.step += 1
        now, cpu_now = time.monotonic(), time.process_time()
        progress.seconds, last_time = progress.seconds + now - last_time, now
        progress.cpu_seconds, last_cpu_time = progress.cpu_seconds + cpu_now - last_cpu_time, cpu_now
        bar.update()

        if progress.step % args.logging_steps == 0:
            values = meter.result() | {"lr": lr_scheduler.get_last_lr()[0]}
            accelerator.log(values, step=progress.step)
            bar.set_postfix(loss=f"{values['loss']:.4f}")
        if args.validation_steps and progress.step % args.validation_steps == 0 and accelerator.is_main_process:
            figures = report_validation(accelerator, recipe, ema, model, validation_clips, args, progress.step)
        if progress.step % args.checkpointing_steps == 0:
            checkpoints.save_checkpoint(accelerator, output_dir, progress.step, args.checkpoints_total_limit)

    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if args.validation_steps and progress.step % args.validation_steps:
            figures = report_validation(accelerator, recipe, ema, model, validation_clips, args, progress.step)
        ema.copy_to(model.parameters())
        save_pipeline(
            recipe, accelerator.unwrap_model(model).eval(), args, progress, accelerator.num_processes, figures
        )
    accelerator.end_training()
