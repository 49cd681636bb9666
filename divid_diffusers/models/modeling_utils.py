"""Strict loading: a checkpoint either is what it is taken for, or is refused in a sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.configuration_utils import ConfigMixin
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


# What diffusers itself writes into a model's config.json beside the model's own fields: `EMAModel.save_pretrained` its
# state, a quantised model how it was quantised, `register_for_auto_class` where the code is.
EMA_STATE = {"decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup", "inv_gamma", "power"}
WRITTEN_BY_DIFFUSERS = EMA_STATE | {"quantization_config", "auto_map"}


@contextmanager
def loading_from(source: str | os.PathLike) -> Iterator[None]:
    """
    Within it, a folder that does not exist is called so: diffusers takes it for a name on the Hub and tells of the
    network.
    """
    source = os.fspath(source)
    absent = f"There is no folder {source!r} in {os.getcwd()}"
    if not os.path.exists(source):
        try:
            validate_repo_id(source)
        except HFValidationError as error:
            raise OSError(
                f"{absent}, nor can a repository on the Hub be called so (those are 'owner/name'): give the path of a "
                "checkpoint."
            ) from error
    try:
        yield
    except OSError as error:
        if os.path.exists(source):
            raise
        reason = " ".join(str(error).split())
        if constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set, and it was not downloaded before"
        raise OSError(
            f"{absent}, and it could not be loaded as a repository of the Hub: {reason}. Give the path of a folder "
            "that exists; "
            "from the Hub, 'owner/name' needs a network, and `hf auth login` where it is private."
        ) from error


def is_finite(weight: torch.Tensor) -> bool:
    """Of plain tensors; those that are quantised or not there yet are taken on trust."""
    plain = type(weight) in (torch.Tensor, torch.nn.Parameter) and weight.is_floating_point() and not weight.is_meta
    return not plain or bool(weight.isfinite().all())


class StrictLoadingMixin:
    """
    Put before `ModelMixin` among the bases. Where diffusers warns and goes on with random weights or default values,
    this raises: `ValueError` for a configuration of another class or with keys that nothing reads, for weights that
    are missing or not finite, and for anything but safetensors; `OSError` for a folder that does not exist.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        if kwargs.get("use_safetensors") is False:
            raise ValueError(f"{cls.__name__} loads weights from safetensors only: leave out `use_safetensors=False`.")
        kwargs["use_safetensors"] = True
        return_info = kwargs.pop("output_loading_info", False)
        source = os.path.expanduser(pretrained_model_name_or_path)
        with loading_from(source):
            model, info = super().from_pretrained(source, output_loading_info=True, **kwargs)
        absent = [*info["missing_keys"], *info["unexpected_keys"]]
        if absent:
            raise ValueError(
                f"The weights in {pretrained_model_name_or_path} do not belong to this {cls.__name__}: {len(absent)} "
                "tensors "
                f"are missing or unknown, {absent[0]!r} first. Check that config.json and weights are of one "
                "checkpoint."
            )
        broken = [name for name, weight in model.state_dict().items() if not is_finite(weight)]
        if broken:
            raise ValueError(
                f"The weights in {pretrained_model_name_or_path} are not finite, {broken[0]!r} first: training had "
                "broken them "
                "before they were saved. Take an earlier checkpoint."
            )
        return (model, info) if return_info else model

    @classmethod
    def extract_init_dict(cls, config_dict, **kwargs):
        saved_class = config_dict.get("_class_name", cls.__name__)
        if saved_class != cls.__name__:
            raise ValueError(
                f"This is the configuration of a {saved_class}, not of a {cls.__name__}: point to the right subfolder "
                "of the "
                "checkpoint."
            )
        own = cls._get_init_keys(cls)
        # A parent's forward may read its own keys from the config, so they are saved too; they are no arguments of
        # ours.
        inherited = set().union(
            *(cls._get_init_keys(base) for base in cls.__mro__[1:] if issubclass(base, ConfigMixin))
        )
        known = own | inherited | WRITTEN_BY_DIFFUSERS
        unknown = sorted(key for key in config_dict if key not in known and not key.startswith("_"))
        if unknown:
            raise ValueError(
                f"The configuration of {cls.__name__} has keys that nothing reads: {', '.join(unknown)}. Remove them, "
                "or "
                "install the version of divid_diffusers that wrote the checkpoint."
            )
        kept = own | WRITTEN_BY_DIFFUSERS
        config_dict = {key: value for key, value in config_dict.items() if key in kept or key.startswith("_")}
        return super().extract_init_dict(config_dict, **kwargs)
