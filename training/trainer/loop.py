"""
The training loop: resumable to the bit, averaged weights, budgets, logs. What is trained, and on which loss, is a
`Recipe`.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from diffusers.training_utils import EMAModel
from tqdm.auto import tqdm

from divid_diffusers.data.sampling import ResumableBatchSampler, SampledClips

from . import checkpoints
from .batch_norm import settle_batch_norm
from .clips import fingerprint, partners, some_clips, to_model_range
from .first_lines import first_lines
from .flags import flags_of, flags_shown
from .length import Length
from .pictures import Pictures
from .progress import Progress
from .recipe import BatchPosition, Recipe
from .reporting import Meter, averaged, forget_later, report_validation
from .resume import refuse_other_clips, resume
from .saving import save_pipeline
from .schedule import rate_factor, share_done, warm_up_share


logger = get_logger(__name__)


def train(
    accelerator: Accelerator,
    recipe: Recipe,
    train_clips: Sequence,
    held_out_clips: Sequence,
    args,
    encoded_clips: Sequence | None = None,
) -> None:
    """
    Train, and leave a pipeline with its card in `--output_dir`; clips as `clips.open_clips` gives them.
    `encoded_clips` are the training clips as the recipe takes them, where that is no pixels.
    """
    output_dir, processes = Path(args.output_dir), accelerator.num_processes
    about = about_run(args, fingerprint(train_clips), processes)
    refuse_other_clips(args, about["clips"], processes)
    model = recipe.module.train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        weight_decay=args.adam_weight_decay,
        fused=True,
    )
    progress, time_counts = Progress(), args.max_train_minutes is not None
    length = Length(args, len(train_clips), processes)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda _: rate_factor(args.lr_scheduler, share_done(args, progress), warm_up_share(args))
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    checkpoints.keep_recurrent_weights(accelerator)
    # Without `use_ema_warmup`, the average is over a ninth of what is done, however many steps the minutes hold.
    ema = EMAModel(
        model.parameters(), decay=args.ema_max_decay, use_ema_warmup=not time_counts, power=0.75, foreach=True
    )
    ema.to(accelerator.device)
    accelerator.register_for_checkpointing(lr_scheduler, ema, progress)
    if args.report_to != "none":
        accelerator.init_trackers(recipe.name, config=flags_shown(args))
    if args.resume_from_checkpoint:
        resume(accelerator, args, progress, optimizer, lr_scheduler, ema)
    figures = forget_later(output_dir, progress.step) if accelerator.is_main_process else {}
    saved_step = progress.step  # where it is, a checkpoint is; a start needs none

    source = train_clips if encoded_clips is None else encoded_clips
    data = SampledClips(source, args.num_frames, args.seed, args.frame_sampling, partners(train_clips, args))
    loader = torch.utils.data.DataLoader(
        data,
        batch_sampler=ResumableBatchSampler(
            len(train_clips),
            args.train_batch_size,
            args.seed,
            accelerator.process_index,
            processes,
            first_batch=progress.step * args.gradient_accumulation_steps,
        ),
        num_workers=args.dataloader_num_workers,
    )
    validation_clips = some_clips(held_out_clips, args, args.num_validation_clips).to(accelerator.device)
    meter = Meter(accelerator)
    for line in first_lines(accelerator, recipe.module, train_clips, held_out_clips, args):
        logger.info(line)
    last_time, last_cpu_time = time.monotonic(), time.process_time()
    bar = tqdm(total=args.max_train_steps, initial=progress.step, disable=not accelerator.is_local_main_process)
    pictures, first_step = Pictures(args.validation_steps, progress), progress.step + 1

    def settle(module: torch.nn.Module) -> None:
        """Statistics of BatchNorm for averaged weights, on training clips."""
        if args.ema_max_decay == 0:
            return
        batches = iter(ResumableBatchSampler(len(train_clips), args.train_batch_size, args.seed + 1))

        def forward(number: int):
            clips = torch.stack([data[position] for position in next(batches)]).to(accelerator.device)
            return recipe.losses(module, to_model_range(clips), BatchPosition(number, 0, 0, 1))

        settle_batch_norm(module, forward)

    def validate() -> None:
        start = time.monotonic()
        with averaged(ema, accelerator.unwrap_model(model), settle) as module, torch.no_grad():
            figures.clear()
            pipeline = recipe.pipeline(module)
            try:
                figures.update(report_validation(accelerator, pipeline, validation_clips, args, progress.step))
            except OSError as error:  # what was learned is worth more than a picture of it
                logger.warning(f"There is no picture of step {progress.step}: {error}")
        pictures.drawn(progress, time.monotonic() - start)

    def save_checkpoint(clips: torch.Tensor, position: BatchPosition) -> None:
        """
        Of weights that have a finite loss on the batch they were last trained on: ruined ones can still be finite
        themselves.
        """
        model.eval()
        with torch.no_grad():
            loss = recipe.losses(model, clips, position)["loss"]
        model.train()
        refuse_broken(accelerator, output_dir, progress.step, loss, model, optimizer, ema)
        checkpoints.save_checkpoint(accelerator, output_dir, progress.step, args.checkpoints_total_limit, about)

    args.interruption.training = True
    clips = position = None
    for number, frames in enumerate(loader):
        if number % args.gradient_accumulation_steps == 0 and (
            share_done(args, progress) >= 1 or args.interruption.asked(accelerator)
        ):
            break
        position = BatchPosition(
            progress.step, number % args.gradient_accumulation_steps, accelerator.process_index, processes
        )
        clips = to_model_range(frames.to(accelerator.device))
        torch.manual_seed(position.seed(args.seed))  # for layers that draw for themselves
        with accelerator.accumulate(model):
            losses = recipe.losses(model, clips, position)
            if not torch.isfinite(losses["loss"]):  # before it reaches the weights
                raise SystemExit(
                    broken(output_dir, f"The loss is {losses['loss'].item()} at step {progress.step + 1}")
                )
            accelerator.backward(losses["loss"])
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
                # in fp16 the scaler skips such steps, and looks for a scale without them
                if accelerator.scaler is None and not torch.isfinite(norm):
                    raise SystemExit(broken(output_dir, f"The gradient is {norm.item()} at step {progress.step + 1}"))
            optimizer.step()
            optimizer.zero_grad()
        meter.add(losses)

        if not accelerator.sync_gradients:
            continue
        ema.step(model.parameters())
        now, cpu_now = time.monotonic(), time.process_time()
        agree = accelerator if time_counts or length.open else None
        progress.advance(now - last_time, cpu_now - last_cpu_time, agree)
        last_time, last_cpu_time = now, cpu_now
        if sentence := length.after_step(progress):
            about["flags"] = flags_of(args)
            logger.info(sentence)
        lr_scheduler.step()
        bar.total = round(progress.step / share_done(args, progress))  # in minutes it is known by and by
        bar.update()

        if progress.step % args.logging_steps == 0 or progress.step == first_step:
            values = meter.result() | {"lr": lr_scheduler.get_last_lr()[0]}
            accelerator.log(values, step=progress.step)
            bar.set_postfix(loss=f"{values['loss']:.4f}")
        if accelerator.is_main_process and pictures.due(progress):
            validate()
        if progress.step % args.checkpointing_steps == 0:
            save_checkpoint(clips, position)
            saved_step = progress.step

    bar.close()
    accelerator.wait_for_everyone()
    interrupted = args.interruption.number
    failure = None
    if progress.step != saved_step:
        try:
            save_checkpoint(clips, position)
        except checkpoints.NoRoom as error:  # the pipeline is smaller
            failure = error
    if interrupted:
        args.interruption.stop_listening()
        if accelerator.is_main_process:
            print(failure or went_on(output_dir, progress.step), file=sys.stderr)
        raise SystemExit(128 + interrupted)
    if accelerator.is_main_process:
        if pictures.any and figures.get("step") != progress.step:
            validate()
        with averaged(ema, accelerator.unwrap_model(model), settle) as module:
            refuse_broken_weights(output_dir, progress.step, module)
            save_pipeline(recipe, module, args, progress, processes, figures)
    accelerator.end_training()
    args.interruption.stop_listening()
    if failure:
        raise failure


def about_run(args, clips: str, processes: int) -> dict:
    """What a checkpoint tells of its run."""
    return {
        "trainer": Path(sys.argv[0]).name,
        "flags": flags_of(args),
        "commands": args.command.splitlines(),
        "clips": clips,
        "processes": processes,
    }


def went_on(output_dir: Path, step: int) -> str:
    found = checkpoints.complete_checkpoints(output_dir)
    if not found:
        return f"Stopped at step {step}, before there was anything to save."
    return f"Stopped at step {step}. Go on with the same command and --resume_from_checkpoint latest ({found[-1]})."


def broken(output_dir: Path, what: str) -> str:
    """The sentence about numbers that are not finite."""
    found = checkpoints.complete_checkpoints(output_dir)
    way_out = f"resume from {found[-1]}" if found else "start again, since there is no checkpoint yet"
    return f"{what}: lower --learning_rate and {way_out}. Nothing of this step was saved."


def refuse_broken(accelerator, output_dir: Path, step: int, loss: torch.Tensor, model, optimizer, ema) -> None:
    moments = (value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value))
    found = {
        "The loss of the weights": [loss],
        "The weights": model.state_dict().values(),
        "The averaged weights": ema.shadow_params,
        "The optimizer's moments": moments,
    }
    wrong = next((name for name, tensors in found.items() if not checkpoints.all_finite(tensors)), "")
    spread = torch.tensor(float(bool(wrong)), device=accelerator.device)
    if accelerator.reduce(spread, "sum").item():  # of any process: all stop
        raise SystemExit(
            broken(output_dir, f"{wrong or 'The state of another process'} after step {step} is not finite")
        )


def refuse_broken_weights(output_dir: Path, step: int, module: torch.nn.Module) -> None:
    if not checkpoints.all_finite(module.state_dict().values()):
        raise SystemExit(broken(output_dir, f"The averaged weights after step {step} are not finite"))
