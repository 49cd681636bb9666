"""
The model sizes: `paper`, as published; `tiny`, which trains on a CPU core; and `small`, between them. And the
baselines in theirs.
"""

from diffusers.schedulers.scheduling_utils import SchedulerMixin

from .models.dbse import DBSE
from .models.sequence_encoder import DiViDSequenceEncoder
from .models.sequential_vae import SequentialVAE
from .models.spyl import SPYL
from .models.unet_static_dynamic import DiViDUNet2DConditionModel
from .pipelines.pipeline_divid import DiViDPipeline
from .schedulers.scheduling_shared_noise_ddpm import SharedNoiseDDPMScheduler


# `paper` is empty on purpose: the defaults of the classes are the paper's values, each marked there with its source.
PRESETS: dict[str, dict[str, dict]] = {
    "paper": {"encoder": {}, "unet": {}},
    "tiny": {
        "encoder": {
            "patch_size": 4,
            "block_out_channels": (32, 64),
            "layers_per_block": 1,
            "mid_block_add_attention": False,
            "latent_channels": 8,
            "norm_num_groups": 8,
            "static_hidden_dim": 256,
            "static_dim": 64,
            "dynamic_dim": 64,
            "lstm_hidden_dim": 64,
            "num_attention_heads": 4,
        },
        "unet": {
            "patch_size": 4,
            "block_out_channels": (48, 64, 96),
            "layers_per_block": 1,
            "attention_levels": (False, True, True),
            "num_attention_heads": (2, 2, 3),  # 32 wide: heads of equal number are up to three times slower on a CPU
            "cross_attention_dim": 128,
            "static_dim": 64,
            "dynamic_dim": 64,
            "norm_num_groups": 16,
            "token_modulation": True,
            "position_embedding": True,
        },
    },
}
# `tiny`, wider: three times the parameters and the arithmetic.
PRESETS["small"] = {
    "encoder": PRESETS["tiny"]["encoder"]
    | {"block_out_channels": (48, 96), "latent_channels": 16, "static_hidden_dim": 512, "lstm_hidden_dim": 128},
    "unet": PRESETS["tiny"]["unet"] | {"block_out_channels": (96, 128, 160), "num_attention_heads": (3, 4, 5)},
}


METHODS: dict[str, type[SequentialVAE]] = {"dbse": DBSE, "spyl": SPYL}
IMAGE_ENCODER_FIELDS = (
    "patch_size",
    "block_out_channels",
    "layers_per_block",
    "mid_block_add_attention",
    "latent_channels",
    "norm_num_groups",
)
# Widths of the codes and recurrent layers, as published. DBSE's is narrower in `tiny`, to have about as many
# parameters as DiViD's.
CODES: dict[str, dict[str, dict]] = {
    "dbse": {
        "published": {"dynamic_dim": 256, "prior_hidden_dim": 64},
        "paper": {"dynamic_dim": 256},
        "tiny": {"dynamic_dim": 192, "hidden_dim": 192},
        "small": {"dynamic_dim": 256},
    },
    "spyl": dict.fromkeys(("published", "paper", "tiny", "small"), {"dynamic_dim": 32}),
}
PUBLISHED_LATENT_CHANNELS = {"dbse": 256, "spyl": 128}


def build_models(
    preset: str, in_channels: int = 3, sample_size: int = 64, **overrides
) -> tuple[DiViDSequenceEncoder, DiViDUNet2DConditionModel]:
    """
    Untrained encoder and UNet of a preset, for frames of `in_channels` x `sample_size` x `sample_size`.

    Args:
        preset (`str`): `"paper"`, `"small"` or `"tiny"`.
        overrides: fields of the two configs, such as `prediction_type`; one that both have, such as `static_dim`, is
            set in both.
    """
    if preset not in PRESETS:
        raise ValueError(f"There is no preset {preset!r}: choose one of {', '.join(PRESETS)}.")
    overrides |= {"in_channels": in_channels, "out_channels": in_channels, "sample_size": sample_size}
    models = []
    for name, model_class in (("encoder", DiViDSequenceEncoder), ("unet", DiViDUNet2DConditionModel)):
        fields = model_class._get_init_keys(model_class)
        own = {field: value for field, value in overrides.items() if field in fields}
        models.append(model_class(**(PRESETS[preset][name] | own)))
    unknown = [field for field in overrides if not any(field in model.config for model in models)]
    if unknown:
        raise ValueError(f"Neither model has a field {', '.join(unknown)}: see the two classes for their configs.")
    return tuple(models)


def build_pipeline(
    preset: str,
    in_channels: int = 3,
    sample_size: int = 64,
    scheduler: SchedulerMixin | None = None,
    num_inference_steps: int = 50,
    **overrides,
) -> DiViDPipeline:
    """
    An untrained pipeline of a preset; arguments as in [`build_models`]. Its scheduler is the paper's unless given.
    """
    encoder, unet = build_models(preset, in_channels, sample_size, **overrides)
    scheduler = scheduler or SharedNoiseDDPMScheduler(prediction_type=unet.config.prediction_type)
    return DiViDPipeline(encoder.eval(), unet.eval(), scheduler, num_inference_steps)


def build_baseline(
    method: str, form: str = "divid", preset: str = "tiny", in_channels: int = 3, sample_size: int = 64, **overrides
) -> SequentialVAE:
    """
    An untrained [`DBSE`] or [`SPYL`].

    Args:
        method (`str`): `"dbse"` or `"spyl"`.
        form (`str`): `"published"`, the method's own size; or `"divid"`, with DiViD's image encoder and its mirror
            image.
        preset (`str`): width of DiViD's image encoder, as in [`build_models`]; the published form has one size.
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
