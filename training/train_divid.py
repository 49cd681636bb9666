"""Train DiViD: one stage, L = L_DDPM + lambda L_orth. See training/README.md; flags and config file: arguments.py."""

from pathlib import Path

import torch
from accelerate.logging import get_logger
from diffusers import DDIMScheduler
from torch import nn
from trainer import graph_loop, loop
from trainer.arguments import parse_args
from trainer.card import write_model_card
from trainer.clips import open_clips, some_clips
from trainer.on_latents import Latents, cached_latents, load_vae, measured_latents
from trainer.recipe import BatchPosition
from trainer.start import start

from divid_diffusers import (
    PRESETS,
    DiViDPipeline,
    DiViDSequenceEncoder,
    DiViDUNet2DConditionModel,
    SharedNoiseDDPMScheduler,
    build_models,
)
from divid_diffusers.models.reference_frame import with_reference_frame
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
    "reference_frame",
    "static_dropout",
    "dynamic_dropout",
)
OF_PIXELS = ("dynamic_recolour", "dynamic_stretch", "dynamic_swaps", "static_mirror")  # which they change, or clip
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
        latents: Latents | None = None,
    ):
        self.latents = latents
        self.module, self.noise_scheduler, self.args = TrainingModule(encoder, unet), noise_scheduler, args
        self.frame_shape = encoder.config.in_channels, encoder.config.sample_size
        self.static_dim = encoder.config.static_dim

    def losses(self, module: nn.Module, clips: torch.Tensor, position: BatchPosition) -> dict[str, torch.Tensor]:
        """
        The loss and its parts, and L_DDPM of every clip in the bucket of its timestep. With `--pair_by` the clips are
        `(B, 2, N, C, H, W)`, each with its partner.
        """
        if self.latents is not None and not self.args.cache_latents:
            clips = self.latents.encode(clips)
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
        latents = {} if self.latents is None else {"vae": self.latents.vae, **self.latents.statistics}
        return DiViDPipeline(module.encoder, module.unet, scheduler, self.args.num_inference_steps, **latents)

    def write_card(self, output_dir: Path, facts: dict[str, str]) -> None:
        write_model_card(output_dir, self.args, facts)


def new_models(args, frame_shape: tuple[int, int], train_clips, latents: Latents | None = None) -> Models:
    chosen = {name: getattr(args, name) for name in MODEL_FLAGS if getattr(args, name) is not None}
    channels, size = frame_shape if latents is None else latents.shape_of(frame_shape, args.dataset)
    if latents is not None:
        chosen["patch_size"] = patch_of_latents(args.preset, size)
    try:
        encoder, unet = build_models(args.preset, channels, size, **chosen)
    except ValueError as error:
        raise SystemExit(f"--preset {args.preset} does not take the frames of {args.dataset}: {error}") from error
    halved = unet.config.patch_size * 2 ** (len(unet.config.block_out_channels) - 1) * frame_shape[1] // size
    if frame_shape[1] % halved:
        raise SystemExit(
            f"The frames of {args.dataset} have {frame_shape[1]} pixels a side, and --preset {args.preset} halves "
            "them until they must be "
            f"a multiple of {halved}: prepare the clips anew."
        )
    if args.calibrate_tokens:
        clips = some_clips(train_clips, args, count=64)
        calibrate(encoder, clips if latents is None else latents.encode(clips))
    return encoder, unet, SharedNoiseDDPMScheduler(prediction_type=args.prediction_type, clip_sample=latents is None)


def patch_of_latents(preset: str, size: int) -> int:
    """With which latents have as many patches a side as 64 pixels, for which presets are made, and cost as little."""
    return max(1, PRESETS[preset]["unet"].get("patch_size", 1) * size // 64)


def pretrained_models(args, frame_shape: tuple[int, int]) -> tuple[Models, Latents | None]:
    vae = {"vae": load_vae(args.pretrained_vae)} if args.pretrained_vae else {}
    try:
        pretrained = DiViDPipeline.from_pretrained(args.pretrained_model_name_or_path, **vae)
        pretrained.check_decodable("encodes no clips")
    except (OSError, ValueError) as error:
        raise SystemExit(f"--pretrained_model_name_or_path: {' '.join(str(error).split())}") from error
    encoder, unet = pretrained.encoder, pretrained.unet
    encoder.register_to_config(residual=args.residual)
    latents, wanted = None, frame_shape
    if pretrained.vae is not None:
        told = {name: pretrained.config[name] for name in ("latents_mean", "latents_std")}
        latents = Latents(pretrained.vae.eval().requires_grad_(False), told if told["latents_std"] else {})
        latents.shape_of(frame_shape, args.dataset)
        wanted = pretrained.frame_shape[0], frame_shape[1]  # grey is given as RGB
    if pretrained.frame_shape != wanted:
        raise SystemExit(
            f"{args.pretrained_model_name_or_path} takes frames of (channels, size) {pretrained.frame_shape}, but "
            f"{args.dataset} has {frame_shape}: prepare the clips anew."
        )
    if args.reference_frame and not unet.config.reference_frame:
        unet = with_reference_frame(unet)
    unet.register_to_config(static_dropout=args.static_dropout, dynamic_dropout=args.dynamic_dropout)
    return (encoder, unet, SharedNoiseDDPMScheduler.from_config(pretrained.scheduler.config)), latents


def without_pixels(args) -> None:
    """What changes pixels cannot be asked for on latents; the recipe's own is left out."""
    asked = [f"--{name}" for name in OF_PIXELS if name in args.given and getattr(args, name)]
    if asked:
        raise SystemExit(f"{', '.join(asked)}: this is for pixels, and the model works on latents. Leave it out.")
    for name in OF_PIXELS:
        setattr(args, name, type(getattr(args, name))())


def check_run(args, models: Models, num_clips: int, processes: int) -> None:
    """What cannot work with these clips, these models or these processes."""
    encoder, _, noise_scheduler = models
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
    widths = encoder.config.static_dim, encoder.config.dynamic_dim
    if args.orthogonality_weight and len(set(widths)) > 1:
        raise SystemExit(
            f"--orthogonality_weight compares s with d, which are {widths[0]} and {widths[1]} wide in this "
            "checkpoint: set it to 0."
        )
    for name in ("invariance_weight", "dynamic_swaps"):
        if processes > 1 and getattr(args, name):
            logger.warning(f"--{name} works on each process's own batch, so this run differs from one of one process.")


def main(args) -> None:
    accelerator = start(args)
    if args.cuda_graph:
        graph_loop.check(accelerator, args)
    train_clips, held_out_clips, frame_shape = open_clips(args)
    latents = encoded_clips = None
    if args.pretrained_model_name_or_path:
        (encoder, unet, noise_scheduler), latents = pretrained_models(args, frame_shape)
    else:
        if args.pretrained_vae:
            vae = load_vae(args.pretrained_vae)
            Latents(vae).shape_of(frame_shape, args.dataset)  # before anything is encoded
            latents = measured_latents(vae, train_clips, args)
        encoder, unet, noise_scheduler = new_models(args, frame_shape, train_clips, latents)
    check_run(args, (encoder, unet, noise_scheduler), len(train_clips), accelerator.num_processes)
    if args.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        encoder.enable_gradient_checkpointing()
    if latents is not None:
        without_pixels(args)
        latents.vae.to(accelerator.device)
    if args.cache_latents:
        if latents is None:
            raise SystemExit("--cache_latents needs a model that works on latents: give --pretrained_vae.")
        with accelerator.main_process_first():
            encoded_clips = cached_latents(Path(args.cache_latents), train_clips, latents, accelerator.device)
    recipe = DiViDRecipe(encoder, unet, noise_scheduler, args, latents)
    if args.cuda_graph:
        graph_loop.train(accelerator, recipe, train_clips, held_out_clips, args)
    else:
        loop.train(accelerator, recipe, train_clips, held_out_clips, args, encoded_clips)


if __name__ == "__main__":
    main(parse_args())
