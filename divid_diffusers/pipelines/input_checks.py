"""What the pipeline refuses before it decodes: what would fail late or, worse, run."""

import math
import operator
from collections.abc import Iterable, Sequence

import torch

from ..schedulers import SCHEDULERS


def check_part(name: str, part: torch.nn.Module | None, pipeline: str) -> None:
    if part is None:
        able = {"encoder": "only decodes stored tokens", "unet": "only encodes clips"}.get(name, "can do nothing")
        raise ValueError(
            f"This pipeline has no {name} and {able}: load it without `{name}=None`, as "
            f"`{pipeline}.from_pretrained(...)`."
        )


def check_scheduler(scheduler, unet: torch.nn.Module | None, on_latents: bool = False) -> None:
    if scheduler is None:
        raise ValueError(
            "This pipeline has no scheduler, and nothing can be decoded: load it without `scheduler=None`."
        )
    kind, used = type(scheduler), scheduler.config.get("prediction_type", "epsilon")
    trained = used if unet is None else unet.config.prediction_type
    if trained != used:
        raise ValueError(
            f"The UNet predicts {trained!r} but the scheduler reads its output as {used!r}: make the scheduler with "
            f"`{kind.__name__}.from_config(pipe.scheduler.config)` of this checkpoint."
        )
    if on_latents and scheduler.config.get("clip_sample"):
        raise ValueError(
            f"{kind.__name__} clips what the UNet says to [-1, 1], and latents go beyond: make it with "
            f"`{kind.__name__}.from_config(pipe.scheduler.config, clip_sample=False)`."
        )
    # One that is not of diffusers is its author's business.
    if kind.__module__.startswith("diffusers.") and not {base.__name__ for base in kind.__mro__} & set(SCHEDULERS):
        raise ValueError(
            f"{kind.__name__} is not among the schedulers this pipeline can sample with, which know the noise levels "
            "that the "
            f"network was trained at and share their noise among the frames of a clip: {', '.join(SCHEDULERS)}."
        )


def check_steps(steps: int, at_most: int | None = None) -> None:
    try:
        whole = operator.index(steps)
    except TypeError:
        raise ValueError(f"`num_inference_steps` is {steps!r}: give a whole number of steps.") from None
    if whole < 1:
        raise ValueError(f"`num_inference_steps` is {steps}: at least one step is needed.")
    if at_most is not None and whole > at_most:
        raise ValueError(
            f"`num_inference_steps` is {steps}, but the network was trained at {at_most} timesteps: take at most as "
            "many."
        )


def check_tokens(static: torch.Tensor, dynamic: Sequence[torch.Tensor], config) -> None:
    if not torch.is_tensor(static) or static.ndim != 2 or static.shape[0] != len(dynamic):
        raise ValueError(
            f"`static` must be one token per clip, a tensor ({len(dynamic)}, {config.static_dim}) for these "
            f"{len(dynamic)} clips of dynamic tokens, but is {tuple(getattr(static, 'shape', ()))}."
        )
    if len(dynamic) == 0:
        raise ValueError("There are no clips to decode: `static` and `dynamic` are empty.")
    for number, clip in enumerate(dynamic):
        if clip.ndim != 2 or clip.shape[0] == 0:
            raise ValueError(
                "`dynamic` must be (batch, frames, D) or a list of (frames, D) with at least one frame, but clip "
                f"{number} "
                f"has shape {tuple(clip.shape)}."
            )
    if not static.isfinite().all() or not all(clip.isfinite().all() for clip in dynamic):
        raise ValueError("The tokens contain NaN or infinity: check the clip they were encoded from.")


def check_guidance(static_scale: float, dynamic_scale: float, config) -> None:
    for name, scale, rate in (
        ("static", static_scale, config.static_dropout),
        ("dynamic", dynamic_scale, config.dynamic_dropout),
    ):
        if not math.isfinite(scale):
            raise ValueError(f"`{name}_guidance_scale` is {scale}: it must be a number.")
        if scale != 1 and not rate:
            raise ValueError(
                f"`{name}_guidance_scale` is {scale}, but this checkpoint never learned the {name} null token "
                f"(`{name}_dropout` is 0): leave the scale at 1, or train with `--{name}_dropout 0.1`."
            )


def check_latents(latents: torch.Tensor, lengths: Sequence[int], config) -> None:
    shape = (len(lengths), config.in_channels, config.sample_size, config.sample_size)
    if (
        latents.ndim != 5
        or (latents.shape[0], *latents.shape[2:]) != shape
        or not (latents.shape[1] == 1 or {latents.shape[1]} == set(lengths))
    ):
        raise ValueError(
            f"`latents` must be {(shape[0], 1, *shape[1:])}, or have as many frames as the (equally long) clips in "
            "place "
            f"of the 1, but is {tuple(latents.shape)}."
        )
    if not latents.isfinite().all():
        raise ValueError("`latents` contain NaN or infinity.")


def check_reference(reference: torch.Tensor, num_clips: int, config) -> None:
    if not config.get("reference_frame"):
        raise ValueError("`reference` is given, and this checkpoint's decoder looks at no static frame: leave it out.")
    shape = (num_clips, config.in_channels, config.sample_size, config.sample_size)
    if reference.shape != shape:
        raise ValueError(f"`reference` must be one static frame per clip, {shape}, but is {tuple(reference.shape)}.")
    if not reference.isfinite().all():
        raise ValueError("`reference` contains NaN or infinity.")


def check_inverted_start(scheduler, options: dict) -> None:
    """What a swap needs that starts from inverted noise."""
    if options.get("latents") is not None:
        raise ValueError("`noise_from='dynamic'` makes the start noise, but `latents` are given, too: leave out one.")
    spacing = scheduler.config.get("timestep_spacing")
    if type(scheduler).__name__ != "DDIMScheduler" or spacing != "trailing":
        raise ValueError(
            "`noise_from='dynamic'` needs the sampler that inversion runs backwards: set `pipe.scheduler` to "
            "`DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing='trailing')`."
        )


def check_options(
    frames_per_batch: int, output_type: str, asked_inputs: Iterable[str] = (), known_inputs: Iterable[str] = ()
) -> None:
    unknown = set(asked_inputs) - set(known_inputs)
    if unknown:
        raise ValueError(
            f"`callback_on_step_end_tensor_inputs` asks for {', '.join(sorted(unknown))}: choose from "
            f"{', '.join(known_inputs)}."
        )
    if frames_per_batch < 1:
        raise ValueError(f"`frames_per_batch` is {frames_per_batch}: at least one frame must be decoded at a time.")
    if output_type not in ("pil", "np", "pt", "latent"):
        raise ValueError(
            f"`output_type` is {output_type!r}: choose 'pil', 'np' or 'pt', or 'latent' for values in [-1, 1]."
        )
