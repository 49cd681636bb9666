"""What a pipeline with a prior can do: clips of nobody, moving as nobody did."""

from typing import Any

import torch

from ..models.encoder_signature import may_be_of
from ..models.sequence_encoder import DiViDTokens
from .input_checks import check_steps
from .pipeline_output import DiViDPipelineOutput
from .token_batches import pair_tokens


class GenerationMixin:
    """Put before `DiffusionPipeline` among the bases of a pipeline with `encode`, `__call__` and a `prior`."""

    @torch.no_grad()
    def sample_tokens(
        self,
        num_clips: int | None = None,
        num_frames: int | None = None,
        static: Any = None,
        dynamic: Any = None,
        prior_steps: int = 50,
        generator: torch.Generator | None = None,
    ) -> DiViDTokens:
        """
        Tokens that the prior draws, as [`generate`] decodes them.

        Args:
            num_clips (`int`, *optional*): how many; as many as are given if left out, or else one. A single given clip
                goes with all of them.
            num_frames (`int`, *optional*): of each; as many as `dynamic` has if left out, or else the most that the
                prior draws.
            static: who: a clip or image, a list of them, or static tokens `(B, S)`. Drawn if left out.
            dynamic: how they move: a clip, or several of one length, or dynamic tokens `(B, K, D)`. Of fewer than
                `num_frames` frames, it is continued. Drawn if left out.
            prior_steps (`int`): denoising steps of the prior.
            generator (`torch.Generator`): makes the result reproducible.

        Raises:
            ValueError: no prior, or one that was trained on the tokens of another encoder; more frames than it draws;
                everything given; clips of different lengths or in numbers that do not go together.
        """
        prior = self.prior
        if prior is None:
            raise ValueError(
                "This checkpoint has no prior, so nothing can be made up: train one with training/train_prior.py, or "
                "swap and interpolate clips that exist."
            )
        if self.encoder is not None and not may_be_of(self.encoder, prior.config.encoder_signature):
            raise ValueError(
                "The prior was trained on the tokens of another encoder, or of this one before it was trained on: "
                "train one for this with training/train_prior.py."
            )
        check_steps(prior_steps, at_most=prior.noise_scheduler.config.num_train_timesteps)
        reference = None
        if static is not None and not (torch.is_tensor(static) and static.ndim == 2):
            who = self.encode(static)
            static, reference = who.static, who.reference
        if dynamic is not None and not (torch.is_tensor(dynamic) and dynamic.ndim == 3):
            dynamic = self.encode(dynamic).dynamic
        if isinstance(dynamic, list):
            raise ValueError("The motions have different lengths: generate them one by one.")
        if static is not None and dynamic is not None:
            static, dynamic = pair_tokens(static, dynamic)
            dynamic = torch.stack(dynamic) if isinstance(dynamic, list) else dynamic
        given = next((len(tokens) for tokens in (static, dynamic) if tokens is not None), 1)
        num_clips = given if num_clips is None else num_clips
        if num_clips < 1 or given not in (1, num_clips):
            raise ValueError(
                f"`num_clips` is {num_clips} with {given} given: ask for as many, or give a single clip for all."
            )
        if num_frames is None and dynamic is not None:
            num_frames = dynamic.shape[1]
        tokens = prior.sample(
            num_clips,
            num_frames,
            None if static is None else static.expand(num_clips, -1),
            None if dynamic is None else dynamic.expand(num_clips, -1, -1),
            prior_steps,
            generator,
        )
        if reference is not None:
            tokens.reference = reference.expand(num_clips, -1, -1, -1) if len(reference) == 1 else reference
        return tokens

    def generate(
        self,
        num_clips: int | None = None,
        num_frames: int | None = None,
        static: Any = None,
        dynamic: Any = None,
        prior_steps: int = 50,
        generator: torch.Generator | None = None,
        **kwargs,
    ) -> DiViDPipelineOutput:
        """
        Clips that nobody recorded: `generate(4)` makes up people and motions, `generate(static=clip)` a motion for
        this person, `generate(dynamic=clip)` a person for this motion, and `generate(static=clip, dynamic=start,
        num_frames=10)` goes on with a motion. Arguments as in [`sample_tokens`]; `kwargs` as in [`__call__`].
        """
        tokens = self.sample_tokens(num_clips, num_frames, static, dynamic, prior_steps, generator)
        options = {"reference": tokens.reference, "generator": generator} | kwargs
        return self(tokens.static, tokens.dynamic, **options)
