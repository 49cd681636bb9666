"""The pipeline: clips to tokens, tokens to clips, and what one can do in between."""

import copy
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import DDIMInverseScheduler, DiffusionPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange

from ..clips.processor import ClipProcessor
from ..models.sequence_encoder import DiViDSequenceEncoder, DiViDTokens
from ..models.token_directions import TokenDirections, check_amounts, check_directions
from ..models.token_prior import DiViDTokenPrior
from ..models.unet_static_dynamic import DiViDUNet2DConditionModel
from ..schedulers.scheduling_shared_noise_ddpm import Generators, frame_generators, sample_shared_noise
from .generation import GenerationMixin
from .input_checks import (
    check_guidance,
    check_inverted_start,
    check_latents,
    check_options,
    check_part,
    check_reference,
    check_scheduler,
    check_steps,
    check_tokens,
)
from .latents import Autoencoder, LatentsMixin, check_vae, scale_factor
from .pipeline_output import DiViDPipelineOutput
from .saving import WholeSavingMixin
from .token_batches import encode_clips, pair_tokens, to_output


class DiViDPipeline(WholeSavingMixin, GenerationMixin, LatentsMixin, DiffusionPipeline):
    r"""
    Static/dynamic disentanglement of video (DiViD): [`encode`] a clip into one static token (who) and one dynamic
    token per frame (motion), [`reconstruct`] it from them, [`swap`] them between clips, [`interpolate`] them,
    [`animate`] an image, [`edit`] a clip by sliders, [`invert`] a clip to the noise that reproduces it, and, with a
    prior, [`generate`] new ones.

    "A clip" below is whatever [`ClipProcessor`] reads: a path or URL of a video or GIF, a folder of frames, a list of
    PIL images, an array or a tensor. Wherever a clip is taken, so is a list of clips, of equal or different lengths.
    Frames are cropped around their centre to a square and resized to the model's size.

    Motion is encoded relative to the static frame, whose pose is therefore part of the static token: a swap shows the
    donor's motion as seen from *its* first frame, performed from the pose of the static clip's static frame. Where
    `encoder.config.residual` is False, motion is the poses themselves, and the static frame gives only who performs
    them.

    ```python
    from divid_diffusers import DiViDPipeline, export_clip
    from divid_diffusers.data.puppets import Puppets

    ann, bob = (clip["frames"] for clip in Puppets(2, split="test"))  # or paths of videos
    pipe = DiViDPipeline.from_pretrained("examples/divid-puppets-tiny")
    export_clip(pipe.swap(ann, bob).frames[0], "ann_moves_like_bob.gif")

    tokens = pipe.encode([ann, bob])  # tokens.static (2, S), tokens.dynamic (2, N, D)
    swapped = pipe(tokens.static, tokens.dynamic.flip(0), output_type="pt").frames  # (2, N, C, H, W) in [0, 1]
    ```

    Args:
        encoder ([`DiViDSequenceEncoder`]), unet ([`DiViDUNet2DConditionModel`]): the two trained parts. Either may be
            `None`: tokens that were stored are decoded without the encoder, clips are encoded without the UNet.
        scheduler ([`SharedNoiseDDPMScheduler`] or one of [`SCHEDULERS`]): swap it by `from_config`; the noise of a
            clip stays shared by its frames with all of them.
        num_inference_steps (`int`): this checkpoint's default number of denoising steps.
        directions ([`TokenDirections`], *optional*): what [`edit`] moves tokens along.
        prior ([`DiViDTokenPrior`], *optional*): draws tokens of this encoder, for [`generate`].
        vae ([`AutoencoderKL`], [`AutoencoderTiny`], [`AsymmetricAutoencoderKL`] or [`VQModel`], *optional*): where
            there is one, `encoder` and `unet` work on its latents, and frames are as many times larger.
        latents_mean, latents_std (`list[float]`, *optional*): of the training set's latents, per channel, as
            [`statistics`] measures them; the networks then see them with mean 0 and standard deviation 0.5. Default:
            the autoencoder's own factors alone.
        vae_scale_factor (`int`, *optional*): how many times smaller than a frame latents are. Known from `vae`; in the
            config it says what the networks were trained on, where the autoencoder is left out or replaced.
    """

    model_cpu_offload_seq = "encoder->prior->unet->vae"
    _optional_components = ["encoder", "unet", "directions", "prior", "vae"]
    _callback_tensor_inputs = ["latents"]

    @register_to_config
    def __init__(
        self,
        encoder: DiViDSequenceEncoder,
        unet: DiViDUNet2DConditionModel,
        scheduler: SchedulerMixin,
        num_inference_steps: int = 50,
        directions: TokenDirections | None = None,
        prior: DiViDTokenPrior | None = None,
        vae: Autoencoder | None = None,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
        vae_scale_factor: int | None = None,
    ):
        super().__init__()
        for name, part in (("encoder", encoder), ("UNet", unet)):
            # By its config, not its class: a compiled model is of another.
            if part is not None and "static_dim" not in part.config:
                raise ValueError(
                    f"A {type(part).__name__} is no {name} of a DiViDPipeline: it knows no tokens. Load a checkpoint "
                    "of DiViD."
                )
        if encoder is None and unet is None:
            raise ValueError("A DiViDPipeline without encoder and without UNet can do nothing: leave out at most one.")
        shared = ("static_dim", "dynamic_dim", "sample_size", "in_channels")
        for name in shared if encoder is not None and unet is not None else ():
            ours, theirs = encoder.config[name], unet.config[name]
            if ours != theirs:
                raise ValueError(
                    f"Encoder and UNet do not fit together: `{name}` is {ours} in one and {theirs} in the other. Load "
                    "both "
                    "from one checkpoint."
                )
        tokens = next(part for part in (encoder, unet) if part is not None).config
        for name in ("static_dim", "dynamic_dim") if prior is not None else ():
            if prior.config[name] != tokens[name]:
                raise ValueError(
                    f"The prior draws tokens of another width: `{name}` is {prior.config[name]}, where this model has "
                    f"{tokens[name]}. Train one for it with training/train_prior.py."
                )
        if vae is not None:
            check_vae(vae, tokens, vae_scale_factor)
            self.register_to_config(vae_scale_factor=scale_factor(vae))
        parts = {"encoder": encoder, "unet": unet, "directions": directions, "prior": prior, "vae": vae}
        self.register_modules(scheduler=scheduler, **parts)
        self._check_scheduler()
        self.clip_processor = ClipProcessor()
        self._interrupt, self._num_timesteps = False, 0

    @property
    def num_timesteps(self) -> int:
        """
        How often the running call, or else the last one, calls `callback_on_step_end`: steps times batches of frames.
        """
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """
        Whether the call is to stop after this step: set `pipe._interrupt = True`, in a callback or from another
        thread.
        """
        return self._interrupt

    def encode(self, clips: Any, static_frame: int = 0) -> DiViDTokens:
        """
        Tokens of a clip or of a list of clips. Differentiable with respect to tensor input.

        Args:
            clips: one clip or a list of clips.
            static_frame (`int`): the frame that gives the static token and that motion is relative to.

        Returns:
            [`DiViDTokens`]: `static` `(B, S)`; `dynamic` `(B, N, D)`, or a list of `(N_b, D)` if the lengths differ;
            `reference` `(B, C, H, W)`, the static frame, where the decoder looks at it.
        """
        check_part("encoder", self.encoder, type(self).__name__)
        self._check_scheduler()
        return self._tokens(self.prepare_frames(clips), static_frame)

    def _check_scheduler(self) -> None:
        check_scheduler(self.scheduler, self.unet, self.config.vae_scale_factor is not None)

    def _tokens(self, frames: list[torch.Tensor], static_frame: int) -> DiViDTokens:
        dtype = self.encoder.dtype
        tokens = encode_clips(lambda batch: self.encoder(batch, static_frame), [clip.to(dtype) for clip in frames])
        if self.unet is not None and self.unet.config.get("reference_frame"):
            tokens.reference = torch.stack([clip[static_frame] for clip in frames])
        return tokens

    def reconstruct(self, clips: Any, static_frame: int = 0, **kwargs) -> DiViDPipelineOutput:
        """The clip decoded from its own tokens, from noise that knows nothing of it. `kwargs` as in [`__call__`]."""
        with torch.no_grad():
            tokens = self.encode(clips, static_frame)
        return self(tokens.static, tokens.dynamic, **{"reference": tokens.reference} | kwargs)

    def swap(
        self,
        static_clips: Any,
        dynamic_clips: Any,
        static_frame: int = 0,
        noise_from: str | None = None,
        **kwargs,
    ) -> DiViDPipelineOutput:
        """
        This person, that motion: the static token of `static_clips` with the dynamic tokens of `dynamic_clips`.

        Args:
            static_clips, dynamic_clips: as many of one as of the other, or a single one of either for all of the
                other. The output has the length of the dynamic clip.
            static_frame (`int`): the frame of the static clip that gives its token.
            noise_from (`str`, *optional*): `"dynamic"` starts from the noise that [`invert`] gives of the dynamic
                clips, as DiffSDA's swaps do (appendix B.4): it holds what d does not, looks of the dynamic clip
                included. Default: from noise that knows nothing of any clip.
            kwargs: as in [`__call__`]; with `reference=None` a decoder that looks at the static frame does without.

        Raises:
            ValueError: with `noise_from="dynamic"`, `latents` as well, a scheduler that does not undo [`invert`], and
                dynamic clips of different lengths.
        """
        if noise_from not in (None, "dynamic"):
            raise ValueError(f"`noise_from` is {noise_from!r}: choose 'dynamic', or None for noise of no clip.")
        with torch.no_grad():
            who = self.encode(static_clips, static_frame)
            dynamic = self.encode(dynamic_clips).dynamic
        static, dynamic = pair_tokens(who.static, dynamic)
        reference = who.reference
        if reference is not None and len(reference) == 1:
            reference = reference.expand(len(static), -1, -1, -1)
        if noise_from == "dynamic":
            check_inverted_start(self.scheduler, kwargs)
            steps = kwargs.get("num_inference_steps")
            steps = self.config.num_inference_steps if steps is None else steps
            start = self.invert(dynamic_clips, num_inference_steps=steps)
            kwargs["latents"] = start.expand(len(dynamic), *start.shape[1:])
        return self(static, dynamic, **{"reference": reference} | kwargs)

    def animate(self, images: Any, driving_clips: Any, **kwargs) -> DiViDPipelineOutput:
        """
        An image (or a list of clips of one frame) moved by the motion of a driving clip: [`swap`] with a still image.
        """
        return self.swap(images, driving_clips, **kwargs)

    def edit(self, clips: Any, amounts: Mapping[str, float], static_frame: int = 0, **kwargs) -> DiViDPipelineOutput:
        """
        The clip with its tokens moved along directions: `pipe.edit(clip, {"static 1": 2.0, "dynamic 1": -1.0})`.
        Decoded from the tokens alone where s moves: the static frame shows who it was.

        Args:
            clips: one clip or a list of clips, all moved alike.
            amounts (`dict[str, float]`): standard deviations to go along each direction, by name; see
                [`TokenDirections`]. With none, or zeros, it is [`reconstruct`].
            static_frame (`int`): as in [`encode`].
            kwargs: as in [`__call__`].

        Raises:
            ValueError: a checkpoint without directions, directions of another encoder, an unknown name, an amount that
                is no finite number.
        """
        check_part("encoder", self.encoder, type(self).__name__)
        if self.directions is None:
            raise ValueError(
                "This checkpoint has no directions to edit a clip along: find them with "
                "`python training/find_directions.py --model CHECKPOINT --dataset SET`."
            )
        check_directions(self.directions, self.encoder)
        check_amounts(amounts, self.directions.names)
        with torch.no_grad():
            tokens = self.encode(clips, static_frame)
        static, dynamic = self.directions.move(tokens.static, tokens.dynamic, amounts)
        reference = tokens.reference if torch.equal(static, tokens.static) else None
        return self(static, dynamic, **{"reference": reference} | kwargs)

    def interpolate(
        self, clip_a: Any, clip_b: Any, factor: str = "static", num_clips: int = 5, static_frame: int = 0, **kwargs
    ) -> DiViDPipelineOutput:
        """
        `num_clips` clips on the straight line between two clips in one factor, the other factor being that of
        `clip_a`. Between two s they are decoded from the tokens alone: there is no frame of somebody in between.

        Args:
            clip_a, clip_b: one clip each; for `factor="dynamic"` of the same length.
            factor (`str`): `"static"` or `"dynamic"`.
            num_clips (`int`): how many, both ends included.
        """
        if factor not in ("static", "dynamic"):
            raise ValueError(f"`factor` is {factor!r}: interpolate the 'static' or the 'dynamic' tokens.")
        if num_clips < 2:
            raise ValueError(f"`num_clips` is {num_clips}: the two ends alone make 2.")
        with torch.no_grad():
            a, b = self.encode(clip_a, static_frame), self.encode(clip_b, static_frame)
        if len(a.static) != 1 or len(b.static) != 1:
            raise ValueError(
                "Interpolation runs between two single clips, but a batch was passed: call it once per pair."
            )
        static, dynamic = a.static.expand(num_clips, -1), a.dynamic.expand(num_clips, -1, -1)
        weight = torch.linspace(0, 1, num_clips, device=static.device, dtype=static.dtype)
        reference = None
        if factor == "static":
            static = torch.lerp(static, b.static.expand_as(static), weight[:, None])
        else:
            if a.dynamic.shape != b.dynamic.shape:
                raise ValueError(
                    f"The clips have {a.dynamic.shape[1]} and {b.dynamic.shape[1]} frames: motion can be interpolated "
                    "only "
                    "between clips of equal length."
                )
            dynamic = torch.lerp(dynamic, b.dynamic.expand_as(dynamic), weight[:, None, None])
            reference = None if a.reference is None else a.reference.expand(num_clips, -1, -1, -1)
        return self(static, dynamic, **{"reference": reference} | kwargs)

    @torch.no_grad()
    def invert(self, clips: Any, static_frame: int = 0, num_inference_steps: int = 100) -> torch.Tensor:
        """
        The start x_T from which deterministic sampling gives the clip back (DDIM run backwards, given the clip's
        tokens). Pass it as `latents` with the same number of steps and a [`DDIMScheduler`] with
        `timestep_spacing="trailing"`.

        It is no draw from N(0, I), and not to be mixed like one: it differs from frame to frame and holds what the
        tokens do not. Where the network's x_0 is off by e near t = 0, the noise is off by `e / sqrt(1 - abar_t)`, up
        to a hundredfold, and the more steps, the more of them are there: on Puppets its standard deviation is 0.4 with
        10 steps, 1.9 with 100.

        Args:
            clips: one clip, or several of equal length.
            num_inference_steps (`int`): 1 to the scheduler's number of training timesteps; the more, the closer the
                reconstruction.

        Returns:
            `torch.Tensor` of shape `(B, N, C, H, W)`.

        Raises:
            ValueError: a number of steps out of range, clips of different lengths.
        """
        check_part("unet", self.unet, type(self).__name__)
        check_steps(num_inference_steps, at_most=self.scheduler.config.num_train_timesteps)
        check_part("encoder", self.encoder, type(self).__name__)
        self._check_scheduler()
        frames = self.prepare_frames(clips)
        tokens = self._tokens(frames, static_frame)
        if isinstance(tokens.dynamic, list):
            raise ValueError("Inversion takes clips of one length: invert clips of different lengths one by one.")
        frames = torch.stack(frames).to(self.unet.dtype)
        scheduler = DDIMInverseScheduler.from_config(
            self.scheduler.config,
            prediction_type="epsilon",
            timestep_spacing="trailing",
            clip_sample=False,
            set_alpha_to_one=True,
        )
        scheduler.set_timesteps(num_inference_steps, device=frames.device)
        context = self.unet.cache_context(self.unet.context(tokens.static, tokens.dynamic))
        batch = frames.shape[0]
        latents = rearrange(frames, "b n c h w -> (b n) c h w")
        reference = tokens.reference
        if reference is not None:
            reference = reference.to(latents).repeat_interleave(frames.shape[1], dim=0)
        for t in self.progress_bar(scheduler.timesteps):
            output = self.unet(latents, t, context, reference=reference).sample
            noise = self._predicted_noise(output, latents, scheduler.alphas_cumprod[t].to(latents))
            latents = scheduler.step(noise, t, latents).prev_sample
        return rearrange(latents, "(b n) c h w -> b n c h w", b=batch)

    def _predicted_noise(self, output: torch.Tensor, noisy: torch.Tensor, abar: torch.Tensor) -> torch.Tensor:
        """
        The epsilon that the network's output stands for. Not left to the inverse scheduler, which would read the
        output at the noise level the step comes from; for the first step, from no noise at all, x_0 says nothing about
        epsilon.
        """
        if self.unet.config.prediction_type == "sample":
            return (noisy - abar.sqrt() * output) / (1 - abar).sqrt()
        if self.unet.config.prediction_type == "v_prediction":
            return abar.sqrt() * output + (1 - abar).sqrt() * noisy
        return output

    @torch.no_grad()
    def __call__(
        self,
        static: torch.Tensor,
        dynamic: torch.Tensor | list[torch.Tensor],
        num_inference_steps: int | None = None,
        static_guidance_scale: float = 1.0,
        dynamic_guidance_scale: float = 1.0,
        eta: float = 0.0,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        reference: torch.Tensor | None = None,
        frames_per_batch: int = 64,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[["DiViDPipeline", int, int, dict], dict]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],
    ) -> DiViDPipelineOutput | tuple:
        r"""
        Decode tokens into clips.

        With guidance, for the tokens `s`, `d` and the null tokens written as 0, the prediction is

            e(s, d) + (w_s - 1) (e(s, d) - e(0, d)) + (w_d - 1) (e(s, d) - e(s, 0))

        (our choice: classifier-free guidance, once per factor). A scale of 1 is no guidance and costs nothing.

        Args:
            static (`torch.Tensor` of shape `(B, S)`), dynamic (`(B, N, D)`, or a list of `(N_b, D)`): tokens, see
                [`encode`].
            num_inference_steps (`int`, *optional*): denoising steps; the checkpoint's own default if left out.
            static_guidance_scale, dynamic_guidance_scale (`float`): w_s and w_d.
            eta (`float`): DDIM's stochasticity; ignored by schedulers without it.
            generator (`torch.Generator` or one per clip): makes the result reproducible.
            latents (`torch.Tensor`): the start noise x_T, `(B, 1, C, H, W)` shared by the frames or `(B, N, C, H, W)`
                as [`invert`] gives it.
            reference (`torch.Tensor` of shape `(B, C, H, W)`, *optional*): the static frames as [`encode`] gives
                them, for a decoder that looks at them. Without, clips are decoded from the tokens alone, as in the
                paper.
            frames_per_batch (`int`): frames denoised at once. Memory depends on this, not on the length of the clip;
                the result does not depend on it.
            output_type (`str`): `"pil"`, `"np"`, `"pt"`, or `"latent"` for x_0 as the sampler left it; see
                [`DiViDPipelineOutput`].
            return_dict (`bool`): a [`DiViDPipelineOutput`], or a tuple with its frames.
            callback_on_step_end: called as `callback(pipe, step, timestep, {"latents": ...})` after every step of
                every batch of frames, `step` counting through to [`num_timesteps`]; may return a dict with other
                `latents`. Also a [`PipelineCallback`] or [`MultiPipelineCallbacks`] of diffusers.
                `pipe._interrupt = True` ends the call after this step: frames whose turn had not come are then still
                noise.
            callback_on_step_end_tensor_inputs (`list[str]`): what the callback gets: `["latents"]` or nothing.

        Raises:
            ValueError: tokens that do not fit the UNet or each other, NaN in tokens, a scheduler that reads the
                network's output as something it is not, guidance of a checkpoint trained without null tokens.
        """
        check_part("unet", self.unet, type(self).__name__)
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        lengths = [len(clip) for clip in dynamic]
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        config = self.unet.config
        self._check_scheduler()
        check_tokens(static, dynamic, config)
        check_guidance(static_guidance_scale, dynamic_guidance_scale, config)
        if latents is not None:
            check_latents(latents, lengths, config)
        if reference is not None:
            check_reference(reference, len(lengths), config)
        check_steps(steps)
        check_options(frames_per_batch, output_type, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        if output_type != "latent":
            self.check_decodable("gives latents only, with `output_type='latent'`")
        device, dtype = self._execution_device, self.unet.dtype
        channels, size = config.in_channels, config.sample_size

        # Frames meet only through their tokens and the noise, so all clips are laid end to end and decoded in pieces.
        clip_of_frame = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        frame_static = static.to(device, dtype)[clip_of_frame.to(device)]
        frame_dynamic = torch.cat([clip.to(device, dtype) for clip in dynamic])
        if reference is not None:
            reference = reference.to(device, dtype)
        frame_shape = (1, channels, size, size)
        if latents is None and config.shared_noise:
            latents = sample_shared_noise((len(lengths), *frame_shape), generator, device, dtype)
        generators = frame_generators(generator, lengths, device, config.shared_noise)
        if latents is None:
            frame_latents = randn_tensor((len(generators), *frame_shape[1:]), generators, device, dtype)
        elif latents.shape[1] == 1:
            frame_latents = latents.to(device, dtype)[:, 0][clip_of_frame.to(device)]
        else:
            frame_latents = rearrange(latents.to(device, dtype), "b n c h w -> (b n) c h w")

        pieces = torch.arange(len(clip_of_frame)).split(frames_per_batch)
        scheduler = copy.deepcopy(self.scheduler)  # its state is this call's: threads may share the pipeline
        try:
            scheduler.set_timesteps(steps, device=device)
        except (ValueError, IndexError) as error:
            raise ValueError(f"{type(scheduler).__name__} cannot take {steps} steps: {error}") from error
        self._interrupt, self._num_timesteps = False, len(scheduler.timesteps) * len(pieces)
        decoded, step_numbers = [], itertools.count()
        with self.progress_bar(total=self._num_timesteps) as progress_bar:

            def on_step_end(t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
                if callback_on_step_end is not None:
                    tensors = dict.fromkeys(callback_on_step_end_tensor_inputs, latents)
                    changed = callback_on_step_end(self, next(step_numbers), t, tensors)
                    latents = (changed or {}).get("latents", latents)
                progress_bar.update()
                return latents

            for piece in pieces:
                decoded.append(
                    self._denoise(
                        frame_static[piece],
                        frame_dynamic[piece],
                        frame_latents[piece],
                        None if reference is None else reference[clip_of_frame[piece].to(device)],
                        copy.deepcopy(scheduler),
                        {"generator": [generators[i] for i in piece], "eta": eta},
                        (static_guidance_scale, dynamic_guidance_scale),
                        on_step_end,
                    )
                )
        frames = torch.cat(decoded)
        if output_type != "latent":
            frames = self.decode_frames(frames)
        clips = frames.split(lengths)
        self.maybe_free_model_hooks()
        frames = to_output(self.clip_processor, clips, output_type)
        return DiViDPipelineOutput(frames=frames) if return_dict else (frames,)

    def _denoise(
        self,
        static: torch.Tensor,
        dynamic: torch.Tensor,
        latents: torch.Tensor,
        reference: torch.Tensor | None,
        scheduler: SchedulerMixin,
        step_kwargs: dict[str, Any],
        scales: tuple[float, float],
        on_step_end: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """
        A batch of frames from noise to x_0: static `(F, S)`, dynamic `(F, D)`, latents and reference `(F, C, H, W)`.
        Where guidance drops s, the static frame goes with it.
        """
        if hasattr(scheduler, "noise_sampler_seed"):
            # DPM-Solver SDE takes no generators, but grows one Brownian tree for each of as many seeds as there are
            # frames.
            scheduler.noise_sampler_seed = [generator.initial_seed() for generator in step_kwargs["generator"]]
        accepted = inspect.signature(scheduler.step).parameters
        step_kwargs = {name: value for name, value in step_kwargs.items() if name in accepted}
        latents = latents * scheduler.init_noise_sigma

        branches, weights = self._guidance_branches(*scales)
        num_frames = len(static)
        context = torch.cat(
            [
                self.unet.context(
                    static,
                    dynamic[:, None],
                    torch.full((num_frames,), drop_static, device=static.device),
                    torch.full((num_frames,), drop_dynamic, device=static.device),
                )
                for drop_static, drop_dynamic in branches
            ]
        )
        context = self.unet.cache_context(context)
        seen = {}
        if reference is not None:
            hidden = torch.tensor([drop for drop, _ in branches], device=reference.device).repeat_interleave(
                num_frames
            )
            seen = {"reference": reference.repeat(len(branches), 1, 1, 1), "hide_reference": hidden}
        for t in scheduler.timesteps:
            if self.interrupt:
                break
            scaled = scheduler.scale_model_input(latents, t)
            outputs = self.unet(scaled.repeat(len(branches), 1, 1, 1), t, context, return_dict=False, **seen)[0]
            output = sum(weight * part for weight, part in zip(weights, outputs.chunk(len(branches))))
            latents = on_step_end(t, scheduler.step(output, t, latents, **step_kwargs, return_dict=False)[0])
        return latents

    @staticmethod
    def _guidance_branches(static_scale: float, dynamic_scale: float) -> tuple[list[tuple[bool, bool]], list[float]]:
        """Which tokens each evaluation of the UNet drops, (static, dynamic), and the weight of its output."""
        branches, weights = [(False, False)], [static_scale + dynamic_scale - 1]
        if static_scale != 1:
            branches.append((True, False))
            weights.append(1 - static_scale)
        if dynamic_scale != 1:
            branches.append((False, True))
            weights.append(1 - dynamic_scale)
        return branches, weights
