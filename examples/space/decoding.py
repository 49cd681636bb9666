"""What the page asks of the model. On ZeroGPU each of these functions is lent a GPU while it runs."""

try:
    import spaces  # ZeroGPU: before torch
except ImportError:
    spaces = None

import functools
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import gradio as gr
import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from domain import Domain, own_snr, read_domain

from divid_diffusers import DiViDPipeline
from divid_diffusers.evaluation.routing_maps import routing_maps
from divid_diffusers.models.encoder_signature import may_be_of
from divid_diffusers.models.token_directions import FACTORS, check_directions


SAMPLERS = {
    "DDIM": DDIMScheduler,
    "DPM-Solver++": DPMSolverMultistepScheduler,
    "UniPC": UniPCMultistepScheduler,
}
MAX_STEPS, MAX_GUIDANCE, MAX_SEED = 50, 4.0, 2**31 - 1
MAX_SECONDS = 300  # for one request
SLIDERS = [f"{factor} {number}" for factor in FACTORS for number in (1, 2, 3)]  # a slider each
MAX_AMOUNT = 3.0  # standard deviations: what lies further out the model has hardly seen
EMBEDDED = Path(__file__).resolve().parents[1] / "divid-puppets-tiny"


def on_gpu(function: Callable) -> Callable:
    """A process of ZeroGPU hands back a `gr.Error` as it is, and of other exceptions nothing but their type."""

    @functools.wraps(function)
    def in_sentences(*args):
        try:
            return function(*args)
        except (ValueError, TypeError) as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from None

    return spaces.GPU(duration=60)(in_sentences) if spaces else in_sentences


def load_pipeline() -> tuple[DiViDPipeline, Domain]:
    """
    The checkpoint that DIVID_MODEL names, a folder or a Hub name; in the repository, by default, the embedded one.
    """
    name = os.environ.get("DIVID_MODEL") or str(EMBEDDED)
    if name == str(EMBEDDED) and not EMBEDDED.is_dir():
        raise SystemExit(
            "Which model? Set DIVID_MODEL to a folder or a name on the Hub (on a Space: Settings, Variables)."
        )
    try:
        pipe, domain = DiViDPipeline.from_pretrained(name), read_domain(name)
    except (OSError, ValueError) as error:
        raise SystemExit(f"DIVID_MODEL is {name}, which cannot be loaded: {' '.join(str(error).split())}") from None
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu"), domain


PIPE, DOMAIN = load_pipeline()  # at start-up, as ZeroGPU wants it
SIZE = PIPE.frame_shape[1]
DEFAULT_STEPS = min(PIPE.config.num_inference_steps, MAX_STEPS)
# The scale at 1 is the only one that a checkpoint trained without null tokens takes.
TAKES_GUIDANCE = {"static": bool(PIPE.unet.config.static_dropout), "dynamic": bool(PIPE.unet.config.dynamic_dropout)}


def slider_labels() -> dict[str, str]:
    """By name, what the page calls each slider that this checkpoint has a direction for; none where it has none."""
    if PIPE.directions is None:
        return {}
    try:
        check_directions(PIPE.directions, PIPE.encoder)
    except ValueError as error:
        logging.warning("There is no tab to edit clips: %s", error)
        return {}
    names = [name for name in SLIDERS if name in PIPE.directions.names]
    labels = {name: PIPE.directions.label(name) for name in names}
    return {name: name.capitalize() + (f": {label}" if label else "") for name, label in labels.items()}


SLIDER_LABELS = slider_labels()


def most_made_up() -> int:
    """Frames of a clip that the prior can draw; 0 without one."""
    if PIPE.prior is None:
        return 0
    if not may_be_of(PIPE.encoder, PIPE.prior.config.encoder_signature):
        logging.warning("There is no tab to make up clips: the prior is of another encoder.")
        return 0
    return PIPE.prior.config.max_frames


MOST_MADE_UP = most_made_up()


@dataclass(frozen=True)
class Settings:
    """What stands under "Advanced". Raises ValueError, a sentence, for what a page cannot send but a script can."""

    sampler: str
    steps: int
    seed: int
    static_guidance: float
    dynamic_guidance: float

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise ValueError(f"There is no sampler {self.sampler!r}: choose one of {', '.join(SAMPLERS)}.")
        for name, value, low, high in (
            ("number of steps", self.steps, 1, MAX_STEPS),
            ("seed", self.seed, 0, MAX_SEED),
            ("static guidance", self.static_guidance, 0, MAX_GUIDANCE),
            ("dynamic guidance", self.dynamic_guidance, 0, MAX_GUIDANCE),
        ):
            if value is None or not math.isfinite(value) or not low <= value <= high:
                raise ValueError(f"The {name} must be a number from {low:g} to {high:g}.")


@on_gpu
def recognise(clip: np.ndarray) -> float:
    """How well the model knows a clip `(N, H, W, 3)` uint8, in dB, see domain.py."""
    pipe = DiViDPipeline(PIPE.encoder, PIPE.unet, type(PIPE.scheduler).from_config(PIPE.scheduler.config))
    pipe.set_progress_bar_config(disable=True)
    return own_snr(pipe, clip)


@on_gpu
def swap(identities: list[np.ndarray], motions: list[np.ndarray], settings: Settings, progress: Callable) -> list:
    """Every identity with every motion, identities first: clips are `(N, H, W, 3)` uint8, as are those returned."""
    with torch.no_grad():
        people = PIPE.encode(identities)
        dynamic = list(PIPE.encode(motions).dynamic)
    pairs = list(product(range(len(identities)), range(len(motions))))
    who = [i for i, _ in pairs]
    reference = None if people.reference is None else people.reference[who]
    output = decode(people.static[who], [dynamic[j] for _, j in pairs], settings, progress, reference)
    return [to_array(clip) for clip in output.frames]


@on_gpu
def interpolate(
    a: np.ndarray, b: np.ndarray, factor: str, position: float, settings: Settings, progress: Callable
) -> np.ndarray:
    """
    The clip at `position` (0: a, 1: b) of the line between two clips of equal length in one factor; the other is a's.
    """
    with torch.no_grad():
        tokens_a, tokens_b = PIPE.encode(a), PIPE.encode(b)
    static, dynamic, reference = tokens_a.static, tokens_a.dynamic, tokens_a.reference
    if factor == "identity":
        static, reference = torch.lerp(static, tokens_b.static, position), None  # as `DiViDPipeline.interpolate`
    else:
        dynamic = torch.lerp(dynamic, tokens_b.dynamic, position)
    return to_array(decode(static, dynamic, settings, progress, reference).frames[0])


@on_gpu
def edit(
    clip: np.ndarray, amounts: dict[str, float], settings: Settings, progress: Callable, frame: int | None = None
) -> np.ndarray:
    """The clip moved along directions by so many standard deviations; with `frame`, this frame of it alone."""
    for name, amount in amounts.items():
        if amount is None or not abs(amount) <= MAX_AMOUNT:
            raise ValueError(f"The amount of {name} must be a number from {-MAX_AMOUNT:g} to {MAX_AMOUNT:g}.")
    with torch.no_grad():
        tokens = PIPE.encode(clip)
    asked = {name: amount for name, amount in amounts.items() if amount}
    static, dynamic = PIPE.directions.move(tokens.static, tokens.dynamic, asked)
    reference = tokens.reference if torch.equal(static, tokens.static) else None  # as `DiViDPipeline.edit`
    dynamic = dynamic if frame is None else dynamic[:, [frame]]
    return to_array(decode(static, dynamic, settings, progress, reference).frames[0])


@on_gpu
def make_up(
    identity: np.ndarray | None, motion: np.ndarray | None, count: int, settings: Settings, progress: Callable
) -> list[np.ndarray]:
    """`count` clips of what is given and, where it is not, of what the prior draws: another seed, other draws."""
    generator = torch.Generator().manual_seed(int(settings.seed))
    tokens = PIPE.sample_tokens(count, static=identity, dynamic=motion, generator=generator)
    output = decode(tokens.static, tokens.dynamic, settings, progress, tokens.reference)
    return [to_array(clip) for clip in output.frames]


@on_gpu
def route(
    identity: np.ndarray, motion: np.ndarray, settings: Settings, progress: Callable
) -> tuple[np.ndarray, torch.Tensor]:
    """
    A swap, and for each step and frame the weight on the static token, `(steps, N, H, W)`, at the finest resolution.
    """
    with torch.no_grad():
        who, dynamic = PIPE.encode(identity), PIPE.encode(motion).dynamic
    output, maps = decode(who.static, dynamic, settings, progress, who.reference, decoder=routing_maps)
    return to_array(output.frames[0]), maps[max(maps)]


def decode(static, dynamic, settings: Settings, progress: Callable, reference=None, decoder: Callable | None = None):
    """Through the pipeline, or through `decoder`, which is called with a pipeline and its arguments."""
    # A pipeline of this request's own: the components are shared, the scheduler is not.
    scheduler = SAMPLERS[settings.sampler].from_config(PIPE.scheduler.config)
    pipe = DiViDPipeline(PIPE.encoder, PIPE.unet, scheduler)
    pipe.set_progress_bar_config(disable=True)
    frames_per_batch = 64
    batches = math.ceil(sum(map(len, dynamic)) / frames_per_batch)
    started = time.monotonic()

    def on_step_end(pipe, step, timestep, tensors):
        if time.monotonic() - started > MAX_SECONDS:
            raise ValueError(
                f"This took longer than {MAX_SECONDS} seconds and was stopped: ask for fewer frames or steps."
            )
        progress((step + 1, int(settings.steps) * batches), desc="Denoising", unit="steps")
        return {}

    options = {
        "num_inference_steps": int(settings.steps),
        "static_guidance_scale": settings.static_guidance,
        "dynamic_guidance_scale": settings.dynamic_guidance,
        "generator": torch.Generator().manual_seed(int(settings.seed)),
        "reference": reference,
        "frames_per_batch": frames_per_batch,
        "callback_on_step_end": on_step_end,
    }
    return decoder(pipe, static, dynamic, **options) if decoder else pipe(static, dynamic, **options)


def to_array(images: list) -> np.ndarray:
    return np.stack([np.asarray(image.convert("RGB")) for image in images])
