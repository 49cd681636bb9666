"""What a model must do to be measured: factor clips into two codes, and decode any two codes."""

from collections.abc import Callable
from typing import Protocol

import torch
from diffusers import DiffusionPipeline

from ..pipelines.pipeline_divid import DiViDPipeline
from ..pipelines.pipeline_sequential_vae import SequentialVAEPipeline
from .results_file import fingerprint


PIPELINES = {pipeline.__name__: pipeline for pipeline in (DiViDPipeline, SequentialVAEPipeline)}
Judge = Callable[[torch.Tensor], dict[str, torch.Tensor]]
"""
Clips `(B, N, C, H, W)` in [0, 1] to the class probabilities `(B, K)` of every factor it tells, as
[`ClipJudge.predict`].
"""


class Disentangler(Protocol):
    """
    Clips `(B, N, C, H, W)` in [0, 1]; static codes `(B, S)`; dynamic codes `(B, N, D)`.

    A sampler's noise must be a function of a clip's place in the batch alone or fixed, so that scores can be repeated.
    Any object with these two methods is scored by everything in this package: DiViD, the baselines, yours.
    """

    def encode(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]: ...

    def decode(self, static: torch.Tensor, dynamic: torch.Tensor) -> torch.Tensor: ...


class PipelineDisentangler:
    """
    A [`Disentangler`] of any pipeline with `encode` and `__call__(static, dynamic)`: [`DiViDPipeline`] and those of
    the baselines.

    Every batch is decoded from the same start noise, seeded by `seed`, in `num_inference_steps` (default: the
    checkpoint's own). Where the decoder looks at the static frame, the static code is s and then that frame's pixels;
    with `reference=False` the decoder goes without, and the code is s.
    """

    def __init__(self, pipe, seed: int = 0, num_inference_steps: int | None = None, reference: bool = True):
        pipe.set_progress_bar_config(disable=True)
        self.pipe, self.seed = pipe, seed
        self.options = {} if num_inference_steps is None else {"num_inference_steps": num_inference_steps}
        looks = hasattr(pipe, "unet") and pipe.unet.config.get("reference_frame", False)
        self.reference, self.tokens_alone = looks and reference, looks and not reference
        prior = getattr(pipe, "prior", None) or getattr(pipe, "model", None)  # baselines' models draw codes themselves
        if hasattr(prior, "sample_static"):
            self.sample_static, self.sample_dynamic = prior.sample_static, prior.sample_dynamic

    def fingerprint(self) -> str:
        """Of the pipeline and of what its decoder is shown; see [`fingerprint`]."""
        return fingerprint(self.pipe, "tokens alone") if self.tokens_alone else fingerprint(self.pipe)

    @torch.no_grad()
    def tokens(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """s `(B, S)` and d `(B, N, D)` alone."""
        tokens = self.pipe.encode(clips)
        return tokens.static.float().cpu(), tokens.dynamic.float().cpu()

    @torch.no_grad()
    def encode(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.reference:
            return self.tokens(clips)
        tokens = self.pipe.encode(clips)
        static = torch.cat([tokens.static.float(), tokens.reference.float().flatten(1)], dim=1)
        return static.cpu(), tokens.dynamic.float().cpu()

    @torch.no_grad()
    def decode(self, static: torch.Tensor, dynamic: torch.Tensor) -> torch.Tensor:
        options = {"generator": torch.Generator().manual_seed(self.seed), "output_type": "pt"} | self.options
        if self.reference:
            config = self.pipe.unet.config
            static, pixels = static.tensor_split([config.static_dim], dim=1)
            if pixels.shape[1]:  # a drawn s has none
                shape = config.in_channels, config.sample_size, config.sample_size
                options["reference"] = pixels.unflatten(1, shape)
        return self.pipe(static, dynamic, **options).frames.float().cpu()


def load_model(
    name: str, path: str, seed: int = 0, num_inference_steps: int | None = None, reference: bool = True
) -> PipelineDisentangler:
    """
    A checkpoint of this package, ready to be measured, with `name` as an attribute. `num_inference_steps` is for those
    that sample, `reference=False` for those that look at the static frame and shall not. Raises ValueError, in a
    sentence, for what is no model of this package.
    """
    try:
        kind = DiffusionPipeline.load_config(path)["_class_name"]
        pipe = PIPELINES[kind].from_pretrained(path)
    except KeyError:
        raise ValueError(f"--models: {path} is no {' or '.join(PIPELINES)}.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"--models: {path} cannot be loaded: {error}") from error
    model = PipelineDisentangler(pipe, seed, num_inference_steps if kind == "DiViDPipeline" else None, reference)
    model.name = name
    return model
