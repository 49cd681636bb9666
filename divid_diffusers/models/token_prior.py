"""A prior over tokens: new people, new motions, both, or a motion continued."""

import torch
from diffusers import DDIMScheduler
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import nn

from .modeling_utils import StrictLoadingMixin
from .offloading import input_device, reads_weights
from .sequence_encoder import DiViDTokens


NOISE = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "clip_sample": False}


class DiViDTokenPrior(StrictLoadingMixin, ModelMixin, ConfigMixin):
    r"""
    A small denoiser over the sequence [s, d_1 .. d_N] of standardised tokens, a transformer with one place for each of
    them and one for the timestep. Its target is v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0 (Salimans and Ho 2022,
    arXiv:2202.00512) on the cosine schedule.

    Tokens that are *given* enter without noise, marked as such, and have no part in the loss: so the same network
    draws everything, a motion for a person, a person for a motion, and the rest of a motion. Any number of frames up
    to `max_frames` is drawn, since training cuts some sequences short. One joint prior over all tokens is DiffSDA's
    form (Zisling et al. 2025, arXiv:2510.05717, which found it better than two); network, target and masking are our
    choice.

    ```python
    import torch

    from divid_diffusers import DiViDTokenPrior

    prior = DiViDTokenPrior(static_dim=64, dynamic_dim=64, max_frames=10).eval()
    person = torch.randn(1, 64)
    tokens = prior.sample(1, num_frames=8, static=person)  # tokens.dynamic (1, 8, 64): a motion for this person
    ```

    Args:
        static_dim, dynamic_dim (`int`): S and D of the encoder.
        max_frames (`int`): the most frames of a sequence.
        width, num_layers, num_attention_heads (`int`): of the transformer.
        dropout (`float`): in training, of its attention and feed-forward layers.
        encoder_signature (`list[float]`, *optional*): [`encoder_signature`] of the encoder whose tokens these are.
    """

    @register_to_config
    def __init__(
        self,
        static_dim: int = 64,
        dynamic_dim: int = 64,
        max_frames: int = 10,
        width: int = 128,
        num_layers: int = 4,
        num_attention_heads: int = 4,
        dropout: float = 0.1,
        encoder_signature: list[float] | None = None,
    ):
        super().__init__()
        if width % num_attention_heads:
            raise ValueError(f"`width` is {width}, which {num_attention_heads} heads cannot share: choose a multiple.")
        self.static_in, self.dynamic_in = nn.Linear(static_dim, width), nn.Linear(dynamic_dim, width)
        self.position, self.given = nn.Embedding(max_frames + 1, width), nn.Embedding(2, width)
        self.time_proj, self.time_embedding = Timesteps(width, True, 0), TimestepEmbedding(width, width)
        self.blocks = nn.ModuleList(
            BasicTransformerBlock(width, num_attention_heads, width // num_attention_heads, dropout=dropout)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.static_out, self.dynamic_out = nn.Linear(width, static_dim), nn.Linear(width, dynamic_dim)
        for name, dim in (("static", static_dim), ("dynamic", dynamic_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(dim))
            self.register_buffer(f"{name}_std", torch.ones(dim))
        self.noise_scheduler = DDIMScheduler(**NOISE, timestep_spacing="trailing")

    @reads_weights
    def standardise(self, tokens: DiViDTokens) -> DiViDTokens:
        """Tokens in units of their standard deviation over the training clips, about their mean."""
        return DiViDTokens(
            static=(tokens.static - self.static_mean) / self.static_std,
            dynamic=(tokens.dynamic - self.dynamic_mean) / self.dynamic_std,
        )

    def fit_statistics(self, tokens: DiViDTokens) -> None:
        """
        Means and standard deviations of training tokens, static `(B, S)` and dynamic `(B, N, D)`. A value that never
        changes has a deviation of one.
        """
        for name, values in (("static", tokens.static), ("dynamic", tokens.dynamic.flatten(0, 1))):
            std = values.std(0, correction=0)
            getattr(self, f"{name}_mean").copy_(values.mean(0))
            getattr(self, f"{name}_std").copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    @reads_weights
    def forward(
        self, static: torch.Tensor, dynamic: torch.Tensor, timesteps: torch.Tensor, given: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        v of standardised tokens at noise level `timesteps` `(B,)`: static `(B, S)`, dynamic `(B, N, D)`; `given`
        `(B, N + 1)` says which of [s, d_1 .. d_N] carry no noise.
        """
        return self._denoise(static, dynamic, timesteps, given)

    def _denoise(self, static, dynamic, timesteps, given) -> tuple[torch.Tensor, torch.Tensor]:
        """[`forward`] without its hooks, which would take away what [`sample`] goes on with."""
        hidden = torch.cat([self.static_in(static)[:, None], self.dynamic_in(dynamic)], dim=1)
        places = torch.arange(hidden.shape[1], device=hidden.device)
        hidden = hidden + self.position(places) + self.given(given.long())
        time = self.time_embedding(self.time_proj(timesteps).to(hidden.dtype))
        hidden = torch.cat([time[:, None], hidden], dim=1)
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.norm(hidden)
        return self.static_out(hidden[:, 1]), self.dynamic_out(hidden[:, 2:])

    def loss(
        self, tokens: DiViDTokens, given: torch.Tensor, timesteps: torch.Tensor, noise: DiViDTokens
    ) -> torch.Tensor:
        """Mean of |v - prediction|^2 over the tokens that are not `given`, each token weighed alike; standardised."""
        abar = self.noise_scheduler.alphas_cumprod.to(tokens.static)[timesteps]
        a, b = abar.sqrt()[:, None, None], (1 - abar).sqrt()[:, None, None]
        fresh = ~given[:, :, None]
        clean, eps = (each.static[:, None] for each in (tokens, noise))
        static, static_v = torch.where(fresh[:, :1], a * clean + b * eps, clean), a * eps - b * clean
        clean, eps = tokens.dynamic, noise.dynamic
        dynamic, dynamic_v = torch.where(fresh[:, 1:], a * clean + b * eps, clean), a * eps - b * clean
        static_told, dynamic_told = self(static[:, 0], dynamic, timesteps, given)
        errors = torch.cat(
            [(static_told[:, None] - static_v).square().mean(-1), (dynamic_told - dynamic_v).square().mean(-1)], dim=1
        )
        return (errors * ~given).sum() / (~given).sum().clamp_min(1)

    @torch.no_grad()
    @reads_weights
    def sample(
        self,
        num_clips: int = 1,
        num_frames: int | None = None,
        static: torch.Tensor | None = None,
        dynamic: torch.Tensor | None = None,
        num_inference_steps: int = 50,
        generator: torch.Generator | None = None,
    ) -> DiViDTokens:
        """
        Tokens, drawn by DDIM with eta = 1; those that are given are in the result as they are, to the bit.

        Args:
            num_clips (`int`): B.
            num_frames (`int`, *optional*): N, `max_frames` if left out.
            static (`(B, S)`, *optional*), dynamic (`(B, K, D)`, *optional*): given tokens, d_1 .. d_K of the N.

        Raises:
            ValueError: tokens of another shape, more frames than `max_frames`, nothing left to draw.
        """
        length = self.config.max_frames if num_frames is None else num_frames
        if not 1 <= length <= self.config.max_frames:
            raise ValueError(f"`num_frames` is {length}: this prior draws 1 to {self.config.max_frames} frames.")
        known = 0 if dynamic is None else dynamic.shape[1]
        for name, tokens, shape in (
            ("static", static, (num_clips, self.config.static_dim)),
            ("dynamic", dynamic, (num_clips, known, self.config.dynamic_dim)),
        ):
            if tokens is not None and tuple(tokens.shape) != shape:
                raise ValueError(f"`{name}` has the shape {tuple(tokens.shape)}, but {shape} is needed.")
            if tokens is not None and not tokens.isfinite().all():
                raise ValueError(f"`{name}` contains NaN or infinity: check the clip it was encoded from.")
        if known > length:
            raise ValueError(f"There are dynamic tokens of {known} frames, but `num_frames` is {length}.")
        if static is not None and known == length:
            raise ValueError("Every token is given, so there is nothing to draw: decode them, or leave one kind out.")

        device, dtype = input_device(self), self.dtype
        template = DiViDTokens(
            static=self.static_mean.expand(num_clips, -1) if static is None else static.to(device, dtype),
            dynamic=self.dynamic_mean.expand(num_clips, length, -1).clone(),
        )
        if known:
            template.dynamic[:, :known] = dynamic.to(device, dtype)
        clean = self.standardise(template)
        given = torch.zeros(num_clips, length + 1, dtype=torch.bool, device=device)
        given[:, 0], given[:, 1 : known + 1] = static is not None, True
        sizes = (self.config.static_dim, length * self.config.dynamic_dim)
        fixed = given[:, :, None]
        flat = randn_tensor((num_clips, sum(sizes)), generator=generator, device=device, dtype=dtype)
        scheduler = DDIMScheduler.from_config(self.noise_scheduler.config)
        scheduler.set_timesteps(num_inference_steps, device=device)
        for t in scheduler.timesteps:
            s, d = flat.split(sizes, dim=1)
            s = torch.where(fixed[:, 0], clean.static, s)
            d = torch.where(fixed[:, 1:], clean.dynamic, d.view_as(clean.dynamic))
            v = self._denoise(s, d, t.expand(num_clips), given)
            v = torch.cat([v[0], v[1].flatten(1)], dim=1)
            flat = scheduler.step(v, t, flat, eta=1.0, generator=generator).prev_sample
        s, d = flat.split(sizes, dim=1)
        s = s * self.static_std + self.static_mean
        d = d.view_as(clean.dynamic) * self.dynamic_std + self.dynamic_mean
        return DiViDTokens(
            static=torch.where(fixed[:, 0], template.static, s),
            dynamic=torch.where(fixed[:, 1:], template.dynamic, d),
        )

    def sample_static(self, batch_size: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Static tokens `(B, S)` alone, as the field's protocols ask for them."""
        return self.sample(batch_size, generator=generator).static

    def sample_dynamic(
        self, batch_size: int, num_frames: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Dynamic tokens `(B, N, D)` alone."""
        return self.sample(batch_size, num_frames, generator=generator).dynamic
