"""The judge: names a clip's identity, action, or whatever factors its data set is labelled with."""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import nn

from .modeling_utils import StrictLoadingMixin
from .offloading import input_device, reads_weights


LAYERS_PER_LEVEL = 6  # two of convolution, normalisation and ReLU


class ClipJudge(StrictLoadingMixin, ModelMixin, ConfigMixin):
    r"""
    A frame encoder, a biLSTM over its features, and one head per factor:

        f_i = CNN(x_i, x_i - x_1),   h = biLSTM(f_1 .. f_N),   logits_k = MLP_k([mean_i h_i ; mean_i f_i])

    The frame difference is given because motions that differ little in pixels differ clearly in it (our choice). The
    shape is that of the field's judges (Bai et al. 2021, C-DSVAE, arXiv:2110.12091, experiments); it is trained on
    real training clips only, and carries its accuracy on real held-out clips in its config, without which a score it
    gives means little.

    ```python
    import torch

    from divid_diffusers.models.judge import ClipJudge

    judge = ClipJudge.from_pretrained("examples/judge-sprites")
    probabilities = judge.predict(torch.rand(2, 8, 3, 64, 64))  # for each factor, such as "hair" (2, 6)
    told = [judge.config.factors["hair"][index] for index in probabilities["hair"].argmax(1)]
    ```

    Args:
        factors (`dict[str, list[str]]`): for every factor the names of its classes, in the order of the labels.
        in_channels, sample_size (`int`): of a frame.
        block_out_channels (`tuple[int]`): width of each level of the frame encoder; each halves the resolution.
        lstm_hidden_dim (`int`): per direction.
        dropout (`float`): before the heads.
        num_frames (`int`): frames per clip it was trained on.
        dataset (`str`): name of the set it was trained on.
        test_accuracy (`dict`): filled by `training/train_judge.py`: for every factor, and for all together ("joint"),
            accuracy on real held-out clips as [share, low, high, n].
    """

    _no_split_modules = []

    @register_to_config
    def __init__(
        self,
        factors: dict[str, list[str]],
        in_channels: int = 3,
        sample_size: int = 64,
        block_out_channels: tuple[int, ...] = (32, 64, 128, 128),
        lstm_hidden_dim: int = 128,
        dropout: float = 0.3,
        num_frames: int = 10,
        dataset: str = "",
        test_accuracy: dict | None = None,
    ):
        super().__init__()
        if not factors or any(len(names) < 2 for names in factors.values()):
            raise ValueError(f"A judge needs factors of at least two classes each, but was given {factors}.")
        layers, channels = [], 2 * in_channels
        for width in block_out_channels:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.frame_encoder = nn.Sequential(*layers)
        side = sample_size
        for _ in block_out_channels:
            side = (side + 1) // 2
        self.frame_proj = nn.Sequential(nn.Flatten(), nn.Linear(channels * side**2, channels), nn.ReLU())
        self.lstm = nn.LSTM(channels, lstm_hidden_dim, batch_first=True, bidirectional=True)
        width = 2 * lstm_hidden_dim + channels
        self.heads = nn.ModuleDict(
            {
                factor: nn.Sequential(
                    nn.Dropout(dropout),
                    nn.Linear(width, 128),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                    nn.Linear(128, len(names)),
                )
                for factor, names in factors.items()
            }
        )

    @reads_weights
    def forward(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits `(B, K)` of every factor of clips `(B, N, C, H, W)` in [0, 1]. Raises ValueError for other frames."""
        size, channels = self.config.sample_size, self.config.in_channels
        if clips.ndim != 5 or clips.shape[2:] != (channels, size, size):
            raise ValueError(
                f"The judge of {self.config.dataset or 'this set'} takes clips (batch, frames, {channels}, {size}, "
                f"{size}), but got "
                f"{tuple(clips.shape)}: is it a judge of another data set?"
            )
        batch = clips.shape[0]
        clips = clips.to(self.dtype)
        frames = rearrange(torch.cat([clips, clips - clips[:, :1]], dim=2), "b n c h w -> (b n) c h w")
        features = rearrange(self.frame_proj(self.frame_encoder(frames)), "(b n) f -> b n f", b=batch)
        hidden, _ = self.lstm(features)
        summary = torch.cat([hidden.mean(dim=1), features.mean(dim=1)], dim=-1)
        return {factor: head(summary) for factor, head in self.heads.items()}

    @reads_weights
    def feature_maps(self, frames: torch.Tensor) -> list[torch.Tensor]:
        """
        The frame encoder's maps `(N, C_l, H_l, W_l)`, one per level, of one clip's frames `(N, C, H, W)` in [0, 1]:
        what [`perceptual_distance`] compares clips in, by a network that knows this very domain.
        """
        frames = frames.to(input_device(self), self.dtype)
        return self._maps(torch.cat([frames, frames - frames[:1]], dim=1))

    @torch.no_grad()
    @reads_weights
    def texture(self, clips: torch.Tensor) -> torch.Tensor:
        """
        Mean and standard deviation over places of every channel of those maps, averaged over frames: `(B, F)`, on the
        CPU, of clips `(B, N, C, H, W)` in [0, 1]. They tell blur, noise and seams, which the classes that it names
        should not depend on.
        """
        self.eval()
        clips = clips.to(input_device(self), self.dtype)
        frames = rearrange(torch.cat([clips, clips - clips[:, :1]], dim=2), "b n c h w -> (b n) c h w")
        maps = [each.flatten(2) for each in self._maps(frames)]
        statistics = [part for each in maps for part in (each.mean(dim=2), each.std(dim=2, correction=0))]
        return torch.cat(statistics, dim=1).unflatten(0, clips.shape[:2]).mean(dim=1).float().cpu()

    def _maps(self, features: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for number, layer in enumerate(self.frame_encoder, start=1):
            features = layer(features)
            if number % LAYERS_PER_LEVEL == 0:
                maps.append(features)
        return maps

    @torch.no_grad()
    def predict(self, clips: torch.Tensor, batch_size: int = 64) -> dict[str, torch.Tensor]:
        """Probabilities `(B, K)` of every factor, in evaluation mode, on the CPU."""
        self.eval()
        parts = [self(batch.to(input_device(self))) for batch in clips.split(batch_size)]
        return {factor: torch.cat([part[factor] for part in parts]).softmax(-1).float().cpu() for factor in self.heads}

    def describe(self) -> str:
        """What to print beside every score it gives: its accuracy on real held-out clips."""
        accuracy = self.config.test_accuracy or {}
        if not accuracy:
            return "judge of unknown accuracy"
        parts = [
            f"{name} {100 * s:.1f} % [{100 * lo:.1f}, {100 * hi:.1f}]" for name, (s, lo, hi, _) in accuracy.items()
        ]
        n = next(iter(accuracy.values()))[3]
        return f"judge of {self.config.dataset}, on {n} real held-out clips: " + ", ".join(parts)
