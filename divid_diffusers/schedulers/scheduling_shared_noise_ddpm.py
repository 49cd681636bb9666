"""DDPM with one noise realisation per clip (the paper's equation 1)."""

import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from einops import rearrange


Generators = torch.Generator | list[torch.Generator] | None


def sample_shared_noise(
    shape: tuple[int, ...],
    generator: Generators = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """
    N(0, I) of shape `(B, N, C, H, W)`, the same for the N frames of a clip (an expanded view: do not write into it).
    """
    batch, num_frames, *rest = shape
    noise = randn_tensor((batch, 1, *rest), generator=generator, device=torch.device(device or "cpu"), dtype=dtype)
    return noise.expand(shape)


def frame_generators(
    generator: Generators, lengths: list[int], device: torch.device | str = "cpu", shared: bool = True
) -> list[torch.Generator]:
    """
    One generator per frame, those of a clip all in the same state: a stock scheduler that is given them together with
    frames folded into the batch draws the same noise for every frame of a clip. Not `shared`, they are all different.

    Args:
        generator: the caller's, one for the batch or one per clip; `None` is torch's global one.
        lengths (`list[int]`): frames of each clip.
        device: where the generators live if `generator` is `None`; else its own device.
    """
    per_clip = generator if isinstance(generator, list) else [generator] * len(lengths)
    if len(per_clip) != len(lengths):
        raise ValueError(
            f"Got {len(per_clip)} generators for {len(lengths)} clips: pass one generator, or one per clip."
        )
    generators = []
    for clip_generator, length in zip(per_clip, lengths):
        where = torch.device(device) if clip_generator is None else clip_generator.device
        seed = torch.randint(
            2**62, (), generator=clip_generator, device=where if clip_generator is not None else "cpu"
        ).item()
        generators += [torch.Generator(where).manual_seed(seed + i * (not shared)) for i in range(length)]
    return generators


class SharedNoiseDDPMScheduler(DDPMScheduler):
    r"""
    [`DDPMScheduler`] whose noise is shared by the frames of a clip. For 5-D samples `(B, N, C, H, W)`:

        x_t^i = sqrt(abar_t) x_0^i + sqrt(1 - abar_t) eps,    eps ~ N(0, I) drawn once for i = 1..N

    and the same holds for the start sample and for the variance noise of every reverse step. 4-D samples are treated
    exactly as by the parent. It adds no configuration of its own, so `from_config` goes both ways between it and any
    diffusers scheduler; [`DiViDPipeline`] keeps the noise shared with all of them.

    Source: the paper, "shared noise"; one t and one noise per clip is our reading of it.

    ```python
    import torch

    from divid_diffusers import SharedNoiseDDPMScheduler

    scheduler = SharedNoiseDDPMScheduler()
    clips = torch.rand(2, 10, 3, 64, 64) * 2 - 1
    noise = scheduler.sample_noise(clips)  # the same for all frames of a clip
    noisy = scheduler.add_noise(clips, noise, timesteps=torch.tensor([10, 900]))
    ```
    """

    def sample_noise(
        self,
        sample: torch.Tensor,
        generator: Generators = None,
    ) -> torch.Tensor:
        """
        Noise like `sample` `(B, N, C, H, W)`, one realisation per clip; for `add_noise` and as the start sample x_T.
        """
        return sample_shared_noise(tuple(sample.shape), generator, device=sample.device, dtype=sample.dtype)

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """
        `x_t` of clips `(B, N, C, H, W)`. `noise` is `(B, N, C, H, W)`, `(B, 1, C, H, W)` or `(B, C, H, W)`;
        `timesteps` `(B,)`.
        """
        if original_samples.ndim == 5 and noise.ndim == 4:
            noise = noise.unsqueeze(1)
        return super().add_noise(original_samples, noise, timesteps)

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int,
        sample: torch.Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> DDPMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """
        One reverse step; see [`DDPMScheduler.step`]. 5-D samples get the same variance noise in every frame of a clip.
        """
        if sample.ndim != 5:
            return super().step(model_output, timestep, sample, generator, return_dict)
        batch, num_frames = sample.shape[:2]
        fold = "b n c h w -> (b n) c h w"
        previous, original = super().step(
            rearrange(model_output, fold),
            timestep,
            rearrange(sample, fold),
            frame_generators(generator, [num_frames] * batch, sample.device),
            return_dict=False,
        )
        previous, original = (
            rearrange(frames, "(b n) c h w -> b n c h w", b=batch) for frames in (previous, original)
        )
        if not return_dict:
            return previous, original
        return DDPMSchedulerOutput(prev_sample=previous, pred_original_sample=original)
