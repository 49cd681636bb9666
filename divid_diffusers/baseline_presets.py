"""The sizes of the baselines: their own, published for Sprites, and with DiViD's image encoder in its two sizes."""

from .models.dbse import DBSE
from .models.sequential_vae import SequentialVAE
from .models.spyl import SPYL
from .presets import PRESETS


METHODS: dict[str, type[SequentialVAE]] = {"dbse": DBSE, "spyl": SPYL}
IMAGE_ENCODER_FIELDS = (
    "patch_size",
    "block_out_channels",
    "layers_per_block",
    "mid_block_add_attention",
    "latent_channels",
    "norm_num_groups",
)
# Widths of the codes and recurrent layers, as published. DBSE's is narrower in `tiny`, to have about as many parameters as DiViD's.
CODES: dict[str, dict[str, dict]] = {
    "dbse": {
        "published": {"dynamic_dim": 256},
        "paper": {"dynamic_dim": 256},
        "tiny": {"dynamic_dim": 192, "hidden_dim": 192},
    },
    "spyl": {"published": {"dynamic_dim": 32}, "paper": {"dynamic_dim": 32}, "tiny": {"dynamic_dim": 32}},
}
PUBLISHED_LATENT_CHANNELS = {"dbse": 256, "spyl": 128}


def build_baseline(
    method: str, form: str = "divid", preset: str = "tiny", in_channels: int = 3, sample_size: int = 64, **overrides
) -> SequentialVAE:
    """
    An untrained [`DBSE`] or [`SPYL`].

    Args:
        method (`str`): `"dbse"` or `"spyl"`.
        form (`str`): `"published"`, the method's own size; or `"divid"`, with DiViD's image encoder and its mirror image.
        preset (`str`): width of DiViD's image encoder, `"paper"` or `"tiny"`; the published form has one size.
        overrides: other fields of the config.

    Raises:
        ValueError: an unknown name, or a `sample_size` that the form does not take.
    """
    for name, value, known in (("method", method, METHODS), ("preset", preset, PRESETS)):
        if value not in known:
            raise ValueError(f"There is no {name} {value!r}: choose one of {', '.join(known)}.")
    if form == "published":
        fields = CODES[method]["published"] | {
            "block_out_channels": (64, 128, 256, 512),
            "latent_channels": PUBLISHED_LATENT_CHANNELS[method],
        }
    else:
        encoder = PRESETS[preset]["encoder"]
        fields = CODES[method][preset] | {name: encoder[name] for name in IMAGE_ENCODER_FIELDS if name in encoder}
    shape = {"form": form, "in_channels": in_channels, "sample_size": sample_size}
    return METHODS[method](**(fields | shape | overrides))
