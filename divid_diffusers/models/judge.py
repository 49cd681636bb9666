"""The judge: names a clip's identity, action, or whatever factors its data set is labelled with."""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .modeling_utils import StrictLoadingMixin
from .offloading import input_device, reads_weights


KINDS = ("2d", "3d")
# Of convolution, normalisation and ReLU: two of each or, in space and time, where one costs as much, one.
LAYERS_PER_LEVEL = {"2d": 6, "3d": 3}


class SpaceTimeNorm(nn.BatchNorm2d):
    """BatchNorm of maps `(B, C, N, H, W)`; one of images, so that whatever looks after those looks after it."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps.flatten(2, 3)).view_as(maps)


def encoder_layers(kind: str, in_channels: int, widths: tuple[int, ...]) -> list[nn.Module]:
    layers, channels = [], 2 * in_channels
    for width in widths:
        if kind == "3d":
            layers += [nn.Conv3d(channels, width, 3, stride=(1, 2, 2), padding=1), SpaceTimeNorm(width), nn.ReLU()]
        else:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return layers


class ClipJudge(StrictLoadingMixin, ModelMixin, ConfigMixin):
    r"""
    Of the kind `"2d"`, a frame encoder and a biLSTM over its features; of the kind `"3d"`, which sees motion in pixels
    and is to be asked beside the other, a convolution in space and time. Then one head per factor:

        f_i = CNN(x_i, x_i - x_1),        h = biLSTM(f_1 .. f_N),   logits_k = MLP_k([mean_i h_i ; mean_i f_i])    2d
        f_1 .. f_N = CNN3D((x_i, x_i - x_1)_i),                     logits_k = MLP_k([max_i f_i ; mean_i f_i])     3d

    The frame difference is given because motions that differ little in pixels differ clearly in it (our choice). The
    shape of the first is that of the field's judges (Bai et al. 2021, C-DSVAE, arXiv:2110.12091, experiments). A judge
    is trained on real training clips only, and carries its accuracy on real held-out clips in its config, without
    which a score it gives means little.

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
        block_out_channels (`tuple[int]`): width of each level of the encoder; each halves the resolution.
        lstm_hidden_dim (`int`): per direction; of no use in the kind `"3d"`.
        dropout (`float`): before the heads.
        num_frames (`int`): frames per clip it was trained on.
        dataset (`str`): name of the set it was trained on.
        test_accuracy (`dict`): filled by `training/train_judge.py`: for every factor, and for all together ("joint"),
            accuracy on real held-out clips as [share, low, high, n].
        blurred_accuracy, noisy_accuracy (`dict`): the same on those clips as decoders would blur them, or leave noise
            in them.
        kind (`str`): `"2d"` or `"3d"`.

    Raises:
        ValueError: another `kind`, or a factor without a choice.
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
        blurred_accuracy: dict | None = None,
        noisy_accuracy: dict | None = None,
        kind: str = "2d",
    ):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"There is no judge of the kind {kind!r}: choose one of {', '.join(KINDS)}.")
        if not factors or any(len(names) < 2 for names in factors.values()):
            raise ValueError(f"A judge needs factors of at least two classes each, but was given {factors}.")
        self.frame_encoder = nn.Sequential(*encoder_layers(kind, in_channels, block_out_channels))
        channels = block_out_channels[-1]
        side = sample_size
        for _ in block_out_channels:
            side = (side + 1) // 2
        self.frame_proj = nn.Sequential(nn.Flatten(), nn.Linear(channels * side**2, channels), nn.ReLU())
        width = 2 * channels
        if kind == "2d":
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
        *_, last = self._maps(clips.to(self.dtype))
        features = self.frame_proj(last.flatten(0, 1)).unflatten(0, clips.shape[:2])
        if self.config.kind == "2d":
            summary = self.lstm(features)[0].mean(dim=1)
        else:
            summary = features.amax(dim=1)
        summary = torch.cat([summary, features.mean(dim=1)], dim=-1)
        return {factor: head(summary) for factor, head in self.heads.items()}

    @reads_weights
    def feature_maps(self, frames: torch.Tensor) -> list[torch.Tensor]:
        """
        The encoder's maps `(N, C_l, H_l, W_l)`, one per level, of one clip's frames `(N, C, H, W)` in [0, 1]: what
        [`perceptual_distance`] compares clips in, by a network that knows this very domain.
        """
        return [each[0] for each in self._maps(frames[None].to(input_device(self), self.dtype))]

    @torch.no_grad()
    @reads_weights
    def texture(self, clips: torch.Tensor) -> torch.Tensor:
        """
        Mean and standard deviation over places of every channel of those maps, averaged over frames: `(B, F)`, on the
        CPU, of clips `(B, N, C, H, W)` in [0, 1]. They tell blur, noise and seams, which the classes that it names
        should not depend on.
        """
        self.eval()
        maps = [each.flatten(3) for each in self._maps(clips.to(input_device(self), self.dtype))]
        statistics = [part for each in maps for part in (each.mean(dim=3), each.std(dim=3, correction=0))]
        return torch.cat(statistics, dim=2).mean(dim=1).float().cpu()

    def _maps(self, clips: torch.Tensor) -> list[torch.Tensor]:
        """After each level, `(B, N, C_l, H_l, W_l)`."""
        features = torch.cat([clips, clips - clips[:, :1]], dim=2)
        features = features.transpose(1, 2) if self.config.kind == "3d" else features.flatten(0, 1)
        maps = []
        for number, layer in enumerate(self.frame_encoder, start=1):
            features = layer(features)
            if number % LAYERS_PER_LEVEL[self.config.kind] == 0:
                is_clip = features.ndim == 5
                maps.append(features.transpose(1, 2) if is_clip else features.unflatten(0, clips.shape[:2]))
        return maps

    @torch.no_grad()
    def predict(self, clips: torch.Tensor, batch_size: int = 64) -> dict[str, torch.Tensor]:
        """Probabilities `(B, K)` of every factor, in evaluation mode, on the CPU."""
        self.eval()
        parts = [self(batch.to(input_device(self))) for batch in clips.split(batch_size)]
        return {factor: torch.cat([part[factor] for part in parts]).softmax(-1).float().cpu() for factor in self.heads}

    @torch.no_grad()
    def in_colour(self) -> "ClipJudge":
        """Of a judge of grey clips: one that says the same of clips whose three channels are that grey."""
        own = {name: value for name, value in self.config.items() if not name.startswith("_")}
        judge = type(self)(**own | {"in_channels": 3})
        weights = self.state_dict()
        first = next(name for name in weights if name.startswith("frame_encoder"))  # sees the clip and its changes
        weights[first] = weights[first].repeat_interleave(3, dim=1) / 3
        judge.load_state_dict(weights)
        return judge.eval()

    def describe(self) -> str:
        """What to print beside every score it gives: its accuracy on real held-out clips, as they are and degraded."""
        accuracy = self.config.test_accuracy or {}
        if not accuracy:
            return "judge of unknown accuracy"
        parts = [f"{name} {shown(each)}" for name, each in accuracy.items()]
        parts += [
            f"all {what} {shown(found['joint'])}"
            for what, found in (("if blurred", self.config.blurred_accuracy), ("if noisy", self.config.noisy_accuracy))
            if found
        ]
        n = next(iter(accuracy.values()))[3]
        return f"judge of {self.config.dataset}, on {n} real held-out clips: " + ", ".join(parts)


def shown(accuracy: list[float]) -> str:
    share, low, high = (100 * each for each in accuracy[:3])
    return f"{share:.1f} % [{low:.1f}, {high:.1f}]"
