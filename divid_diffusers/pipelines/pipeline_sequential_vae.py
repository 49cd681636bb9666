"""The pipeline of the baselines: clips to tokens and tokens to clips, as [`DiViDPipeline`] does it, in one pass."""

from typing import Any

import torch
from diffusers import DiffusionPipeline

from ..clips.processor import ClipProcessor
from ..models.sequence_encoder import DiViDTokens
from ..models.sequential_vae import SequentialVAE
from .input_checks import check_options, check_part, check_tokens
from .pipeline_output import DiViDPipelineOutput
from .saving import WholeSavingMixin
from .token_batches import encode_clips, pair_tokens, to_output


class SequentialVAEPipeline(WholeSavingMixin, DiffusionPipeline):
    r"""
    Static/dynamic disentanglement of video by a sequential VAE: [`encode`] a clip, [`reconstruct`] it, [`swap`] the
    codes of clips. What a clip is, and what comes out, is as in [`DiViDPipeline`]; a token is the mean of its
    posterior.

    Args:
        model ([`DBSE`] or [`SPYL`]): the trained model.
    """

    model_cpu_offload_seq = "model"

    def __init__(self, model: SequentialVAE):
        super().__init__()
        check_part("model", model, type(self).__name__)
        self.register_modules(model=model)
        self.clip_processor = ClipProcessor()

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(channels, size) of the frames that the pipeline takes and gives."""
        return self.model.config.in_channels, self.model.config.sample_size

    def encode(self, clips: Any) -> DiViDTokens:
        """
        Tokens of a clip or of a list of clips. Differentiable with respect to tensor input.

        Returns:
            [`DiViDTokens`]: `static` `(B, S)`; `dynamic` `(B, N, D)`, or a list of `(N_b, D)` if the lengths differ.
        """
        channels, size = self.frame_shape
        frames = self.clip_processor.preprocess(clips, size=size, num_channels=channels, device=self._execution_device)
        return encode_clips(self.model.encode, [clip.to(self.model.dtype) for clip in frames])

    def reconstruct(self, clips: Any, **kwargs) -> DiViDPipelineOutput:
        """The clip decoded from its own tokens. `kwargs` as in [`__call__`]."""
        with torch.no_grad():
            tokens = self.encode(clips)
        return self(tokens.static, tokens.dynamic, **kwargs)

    def swap(self, static_clips: Any, dynamic_clips: Any, **kwargs) -> DiViDPipelineOutput:
        """
        This person, that motion: the static token of `static_clips` with the dynamic tokens of `dynamic_clips`.

        Args:
            static_clips, dynamic_clips: as many of one as of the other, or a single one of either for all of the
                other. The output has the length of the dynamic clip.
            kwargs: as in [`__call__`].
        """
        with torch.no_grad():
            static, dynamic = self.encode(static_clips).static, self.encode(dynamic_clips).dynamic
        return self(*pair_tokens(static, dynamic), **kwargs)

    @torch.no_grad()
    def __call__(
        self,
        static: torch.Tensor,
        dynamic: torch.Tensor | list[torch.Tensor],
        generator: torch.Generator | list[torch.Generator] | None = None,
        frames_per_batch: int = 64,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> DiViDPipelineOutput | tuple:
        """
        Decode tokens into clips.

        Args:
            static (`torch.Tensor` of shape `(B, S)`), dynamic (`(B, N, D)`, or a list of `(N_b, D)`): tokens, see
                [`encode`].
            generator: taken so that the call is that of [`DiViDPipeline`]; decoding draws nothing.
            frames_per_batch (`int`): frames decoded at once. Memory depends on it, the result does not.
            output_type (`str`): `"pil"`, `"np"`, `"pt"`, or `"latent"` for what the decoder gave; see
                [`DiViDPipelineOutput`].
            return_dict (`bool`): a [`DiViDPipelineOutput`], or a tuple with its frames.

        Raises:
            ValueError: tokens that do not fit each other or the model, or have NaN in them; an unknown `output_type`.
        """
        check_tokens(static, dynamic, self.model.config)
        check_widths(static, dynamic, self.model.config)
        check_options(frames_per_batch, output_type)
        like = {"device": self._execution_device, "dtype": self.model.dtype}
        clips = []
        for token, clip in zip(static, dynamic):
            pieces = clip.split(frames_per_batch)
            decoded = [self.model.decode(token[None].to(**like), piece[None].to(**like)) for piece in pieces]
            clips.append(torch.cat(decoded, dim=1)[0])
        self.maybe_free_model_hooks()
        frames = to_output(self.clip_processor, clips, output_type)
        return DiViDPipelineOutput(frames=frames) if return_dict else (frames,)


def check_widths(static: torch.Tensor, dynamic: torch.Tensor | list[torch.Tensor], config) -> None:
    widths = {static.shape[1], config.static_dim}, {config.dynamic_dim, *(clip.shape[1] for clip in dynamic)}
    if any(len(each) > 1 for each in widths):
        raise ValueError(
            f"The tokens are {static.shape[1]} (static) and {dynamic[0].shape[1]} (dynamic) wide, but this model's "
            "are "
            f"{config.static_dim} and {config.dynamic_dim}: encode the clips with the model that decodes them."
        )
