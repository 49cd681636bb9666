"""Train DiViD: one stage, L = L_DDPM + lambda L_orth. See training/README.md; flags and config file: arguments.py."""

from pathlib import Path

import torch
from accelerate.logging import get_logger
from diffusers import DDIMScheduler
from torch import nn
from trainer import loop
from trainer.arguments import parse_args
from trainer.card import write_model_card
from trainer.clips import open_clips, some_clips
from trainer.recipe import BatchPosition
from trainer.start import start

from divid_diffusers import (
    DiViDPipeline,
    DiViDSequenceEncoder,
    DiViDUNet2DConditionModel,
    SharedNoiseDDPMScheduler,
    build_models,
)
from divid_diffusers.training import step_noise
from divid_diffusers.training.calibration import calibrate
from divid_diffusers.training.objective import TrainingModule, objective


logger = get_logger(__name__)
NUM_BUCKETS = 4  # of timesteps: the loss at high noise and at low noise are different things
MODEL_FLAGS = (
    "prediction_type",
    "pixel_shortcut",
    "shrink_input",
    "first_frame",
    "residual",
    "static_source",
    "shared_noise",
    "cross_attention",
    "token_modulation",
    "static_dropout",
    "dynamic_dropout",
)
Models = tuple[DiViDSequenceEncoder, DiViDUNet2DConditionModel, SharedNoiseDDPMScheduler]


class DiViDRecipe:
    """A `trainer.recipe.Recipe`."""

    name = "divid"

    def __init__(
        self,
        encoder: DiViDSequenceEncoder,
        unet: DiViDUNet2DConditionModel,
        noise_scheduler: SharedNoiseDDPMScheduler,
        args,
    ):
        self.module, self.noise_scheduler, self.args = TrainingModule(encoder, unet), noise_scheduler, args
        self.frame_shape = encoder.config.in_channels, encoder.config.sample_size
        self.static_dim = encoder.config.static_dim

    def losses(self, module: nn.Module, clips: torch.Tensor, position: BatchPosition) -> dict[str, torch.Tensor]:
        """
        The loss and its parts, and L_DDPM of every clip in the bucket of its timestep. With `--pair_by` the clips are
        `(B, 2, N, C, H, W)`, each with its partner.
        """
        clips, partners = clips.unbind(1) if self.args.pair_by else (clips, None)
        num_timesteps = self.noise_scheduler.config.num_train_timesteps
        noise = step_noise.draw(
            self.args,
            position.step,
            position.micro_batch,
            position.rank,
            position.world_size,
            *self.frame_shape,
            self.static_dim,
            num_timesteps,
        ).to(clips.device)
        result = objective(module, clips, noise, self.noise_scheduler, self.args, partners)
        losses = {
            "loss": result.loss,
            "loss_ddpm": result.loss_ddpm,
            "loss_orth": result.loss_orth,
            "loss_inv": result.loss_inv,
            "rate": result.rate,
        }
        width = num_timesteps // NUM_BUCKETS
        for bucket in range(NUM_BUCKETS):
            name = f"loss_t/{bucket * width}-{(bucket + 1) * width - 1}"
            losses[name] = result.per_clip[noise.timesteps * NUM_BUCKETS // num_timesteps == bucket]
        return losses

    def pipeline(self, module: TrainingModule) -> DiViDPipeline:
        """A pipeline that samples in few steps: DDIM, whose last step lands on t = 0 and whose first is t = T - 1."""
        scheduler = DDIMScheduler.from_config(self.noise_scheduler.config, timestep_spacing="trailing")
        return DiViDPipeline(module.encoder, module.unet, scheduler, self.args.num_inference_steps)

    def write_card(self, output_dir: Path, facts: dict[str, str]) -> None:
        write_model_card(output_dir, self.args, facts)


def new_models(args, frame_shape: tuple[int, int], train_clips) -> Models:
    chosen = {name: getattr(args, name) for name in MODEL_FLAGS if getattr(args, name) is not None}
    try:
        encoder, unet = build_models(args.preset, *frame_shape, **chosen)
    except ValueError as error:
        raise SystemExit(f"--preset {args.preset} does not take the frames of {args.dataset}: {error}") from error
    halved = unet.config.patch_size * 2 ** (len(unet.config.block_out_channels) - 1)
    if frame_shape[1] % halved:
        raise SystemExit(
            f"The frames of {args.dataset} have {frame_shape[1]} pixels a side, and --preset {args.preset} halves "
            "them until they must be "
            f"a multiple of {halved}: prepare the clips anew."
        )
    if args.calibrate_tokens:
        calibrate(encoder, some_clips(train_clips, args, count=64))
    return encoder, unet, SharedNoiseDDPMScheduler(prediction_type=args.prediction_type)


def pretrained_models(args, frame_shape: tuple[int, int]) -> Models:
    try:
        pretrained = DiViDPipeline.from_pretrained(args.pretrained_model_name_or_path)
    except (OSError, ValueError) as error:
        raise SystemExit(f"--pretrained_model_name_or_path: {' '.join(str(error).split())}") from error
    encoder, unet = pretrained.encoder, pretrained.unet
    encoder.register_to_config(residual=args.residual)
    model_shape = (encoder.config.in_channels, encoder.config.sample_size)
    if model_shape != frame_shape:
        raise SystemExit(
            f"{args.pretrained_model_name_or_path} takes frames of (channels, size) {model_shape}, but {args.dataset} "
            "has "
            f"{frame_shape}: prepare the clips anew."
        )
    unet.register_to_config(static_dropout=args.static_dropout, dynamic_dropout=args.dynamic_dropout)
    return encoder, unet, SharedNoiseDDPMScheduler.from_config(pretrained.scheduler.config)


def check_run(args, noise_scheduler: SharedNoiseDDPMScheduler, num_clips: int, processes: int) -> None:
    """What cannot work with these clips, this scheduler or these processes."""
    timesteps = noise_scheduler.config.num_train_timesteps
    if args.num_inference_steps > timesteps:
        raise SystemExit(
            f"--num_inference_steps is {args.num_inference_steps}: training has {timesteps} timesteps, so choose 1 to "
            f"{timesteps}."
        )
    if args.invariance_weight and (num_clips == 1 or (args.train_batch_size == 2 and num_clips % 2)):
        raise SystemExit(
            f"--invariance_weight compares different clips, and with {num_clips} clips in batches of "
            f"{args.train_batch_size} one of them "
            "would meet itself where an epoch ends: take a --train_batch_size of at least 3, and 2 clips or more."
        )
    for name in ("invariance_weight", "dynamic_swaps"):
        if processes > 1 and getattr(args, name):
            logger.warning(f"--{name} works on each process's own batch, so this run differs from one of one process.")


def main(args) -> None:
    accelerator = start(args)
    train_clips, held_out_clips, frame_shape = open_clips(args)
    if args.pretrained_model_name_or_path:
        encoder, unet, noise_scheduler = pretrained_models(args, frame_shape)
    else:
        encoder, unet, noise_scheduler = new_models(args, frame_shape, train_clips)
    check_run(args, noise_scheduler, len(train_clips), accelerator.num_processes)
    if args.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        encoder.enable_gradient_checkpointing()
    recipe = DiViDRecipe(encoder, unet, noise_scheduler, args)
    loop.train(accelerator, recipe, train_clips, held_out_clips, args)


if __name__ == "__main__":
    main(parse_args())
