"""Directions in the space of tokens to move a clip along: sliders."""

import math
from collections.abc import Mapping
from numbers import Real

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .encoder_signature import may_be_of
from .modeling_utils import StrictLoadingMixin
from .offloading import reads_weights


FACTORS = ("static", "dynamic")


class TokenDirections(StrictLoadingMixin, ModelMixin, ConfigMixin):
    r"""
    Directions `v_k` of s and of d, each as long as one standard deviation of the tokens along it. An edit adds

        s' = s + sum_k a_k v_k        d_i' = d_i + sum_k b_k v_k    for every frame i

    so that an amount of 2 is two standard deviations whatever the direction is. They are found by
    `training/find_directions.py`: the principal directions of s over clips, and of the mean over time of a clip's d_i
    (our choice: what a whole clip's motion has more or less of, added to all its frames alike). Their names are
    "static 1", "static 2", ..., "dynamic 1", ..., the most variance first.

    ```python
    from divid_diffusers import DiViDPipeline
    from divid_diffusers.data.puppets import Puppets

    pipe = DiViDPipeline.from_pretrained("examples/divid-puppets-tiny")
    print(pipe.directions.names)
    edited = pipe.edit(Puppets(1, split="test")[0]["frames"], {"static 1": 2.0, "dynamic 2": -1.5}).frames[0]
    ```

    Args:
        static_dim, dynamic_dim (`int`): S and D of the encoder.
        num_static, num_dynamic (`int`): how many directions there are of each.
        encoder_signature (`list[float]`): [`encoder_signature`] of the encoder whose tokens these are directions of;
            None: not known, and not checked.
        variance (`dict[str, float]`): the share of the variance of all tokens that lies along each, by name.
        explained (`dict[str, dict[str, float]]`): by name of a direction, the share of the variance along it that each
            label explains; empty for a set without labels.
    """

    @register_to_config
    def __init__(
        self,
        static_dim: int = 256,
        dynamic_dim: int = 256,
        num_static: int = 8,
        num_dynamic: int = 8,
        encoder_signature: list[float] | None = None,
        variance: dict[str, float] | None = None,
        explained: dict[str, dict[str, float]] | None = None,
    ):
        super().__init__()
        self.static = nn.Parameter(torch.zeros(num_static, static_dim), requires_grad=False)
        self.dynamic = nn.Parameter(torch.zeros(num_dynamic, dynamic_dim), requires_grad=False)

    @property
    def names(self) -> list[str]:
        """What an edit may name, the static ones first."""
        counts = {"static": self.config.num_static, "dynamic": self.config.num_dynamic}
        return [f"{factor} {number}" for factor in FACTORS for number in range(1, counts[factor] + 1)]

    def label(self, name: str, least: float = 0.3) -> str | None:
        """
        The label that explains most of the variance along a direction, or None where none explains at least a share of
        `least` (our choice).
        """
        shares = (self.config.explained or {}).get(name, {})
        best = max(shares, key=shares.__getitem__, default=None)
        return best if best is not None and shares[best] >= least else None

    @reads_weights
    def move(
        self, static: torch.Tensor, dynamic: torch.Tensor | list[torch.Tensor], amounts: Mapping[str, float]
    ) -> tuple[torch.Tensor, torch.Tensor | list[torch.Tensor]]:
        """
        Tokens moved along directions.

        Args:
            static (`(B, S)`), dynamic (`(B, N, D)` or a list of `(N_b, D)`): tokens.
            amounts: how far to go along each direction, in standard deviations, by name; those left out count as 0.

        Returns:
            The tokens, of the same shapes; a factor that nothing is asked of is the same tensor.

        Raises:
            ValueError: a name that is not among [`names`], an amount that is no finite number.
        """
        check_amounts(amounts, self.names)
        shifts = {}
        for factor, directions in (("static", self.static), ("dynamic", self.dynamic)):
            rows = {f"{factor} {number}": row for number, row in enumerate(directions, 1)}
            asked = [float(amount) * rows[name] for name, amount in amounts.items() if name in rows and amount != 0]
            shifts[factor] = sum(asked) if asked else None
        if shifts["static"] is not None:
            static = static + shifts["static"].to(static)
        if shifts["dynamic"] is not None:
            several = isinstance(dynamic, list)
            moved = [clip + shifts["dynamic"].to(clip) for clip in dynamic]
            dynamic = moved if several else torch.stack(moved)
        return static, dynamic


def check_amounts(amounts: Mapping[str, float], names: list[str]) -> None:
    """Raises ValueError, a sentence, for names that are not among `names` and amounts that are no finite numbers."""
    if not isinstance(amounts, Mapping):
        raise ValueError(f"An edit is a dict such as {{'{names[0]}': 2.0}}, but is a {type(amounts).__name__}.")
    for name, amount in amounts.items():
        if name not in names:
            raise ValueError(f"There is no direction {name!r}: choose from {', '.join(names)}.")
        if not isinstance(amount, Real) or not math.isfinite(amount):
            raise ValueError(f"The amount of {name!r} is {amount!r}: give a number of standard deviations, such as 2.")


def check_directions(directions: TokenDirections, encoder: nn.Module) -> None:
    """Raises ValueError, a sentence, where these are directions of another encoder's tokens."""
    remedy = "Find those of this one with `python training/find_directions.py`."
    for factor in FACTORS:
        ours, theirs = encoder.config[f"{factor}_dim"], directions.config[f"{factor}_dim"]
        if ours != theirs:
            raise ValueError(
                f"These directions are of another encoder: their {factor} tokens have {theirs} numbers and this "
                f"encoder's {ours}. {remedy}"
            )
    if not may_be_of(encoder, directions.config.encoder_signature):
        raise ValueError(f"These directions are of another encoder, or of this one before it was trained on. {remedy}")
