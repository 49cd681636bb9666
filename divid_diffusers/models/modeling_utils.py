"""Strict loading: a checkpoint either is what it is taken for, or is refused in a sentence."""

from diffusers.configuration_utils import ConfigMixin


class StrictLoadingMixin:
    """
    Put before `ModelMixin` among the bases. Where diffusers warns and goes on with random weights or default values, this
    raises: `ValueError` for a configuration of another class or with keys that nothing reads, for weights that are missing
    and for anything but safetensors.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        if kwargs.get("use_safetensors") is False:
            raise ValueError(f"{cls.__name__} loads weights from safetensors only: leave out `use_safetensors=False`.")
        kwargs["use_safetensors"] = True
        return_info = kwargs.pop("output_loading_info", False)
        model, info = super().from_pretrained(pretrained_model_name_or_path, output_loading_info=True, **kwargs)
        absent = [*info["missing_keys"], *info["unexpected_keys"]]
        if absent:
            raise ValueError(
                f"The weights in {pretrained_model_name_or_path} do not belong to this {cls.__name__}: {len(absent)} tensors "
                f"are missing or unknown, {absent[0]!r} first. Check that config.json and weights are of one checkpoint."
            )
        return (model, info) if return_info else model

    @classmethod
    def extract_init_dict(cls, config_dict, **kwargs):
        saved_class = config_dict.get("_class_name", cls.__name__)
        if saved_class != cls.__name__:
            raise ValueError(
                f"This is the configuration of a {saved_class}, not of a {cls.__name__}: point to the right subfolder of the "
                "checkpoint."
            )
        own = cls._get_init_keys(cls)
        # A parent's forward may read its own keys from the config, so they are saved too; they are no arguments of ours.
        inherited = set().union(
            *(cls._get_init_keys(base) for base in cls.__mro__[1:] if issubclass(base, ConfigMixin))
        )
        unknown = sorted(key for key in config_dict if key not in own | inherited and not key.startswith("_"))
        if unknown:
            raise ValueError(
                f"The configuration of {cls.__name__} has keys that nothing reads: {', '.join(unknown)}. Remove them, or "
                "install the version of divid_diffusers that wrote the checkpoint."
            )
        config_dict = {key: value for key, value in config_dict.items() if key in own or key.startswith("_")}
        return super().extract_init_dict(config_dict, **kwargs)
