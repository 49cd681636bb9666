"""A checkpoint comes back as it was, or is refused in a sentence: the same strict loading serves both models."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import WIDTH, same_weights, tiny_encoder, tiny_unet


@pytest.fixture(params=[tiny_encoder, tiny_unet], ids=["encoder", "unet"])
def model(request):
    return request.param()


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path)
    return tmp_path


def own_config(model):
    """Without what depends on where the model was loaded from, and with tuples as JSON has them."""
    return json.loads(json.dumps({k: v for k, v in model.config.items() if not k.startswith("_")}))


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value != "gone"}))


def edit_weights(folder, edit):
    path = folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_a_saved_model_comes_back_silently_with_its_configuration(model, saved, diffusers_warnings):
    loaded = type(model).from_pretrained(saved)
    assert same_weights(loaded, model)
    assert own_config(loaded) == own_config(model)
    assert not loaded.training
    assert diffusers_warnings == []


def test_a_model_is_loaded_in_half_precision_on_request(model, saved):
    assert type(model).from_pretrained(saved, torch_dtype=torch.bfloat16).dtype == torch.bfloat16


def test_the_loading_report_is_returned_on_request(model, saved):
    loaded, info = type(model).from_pretrained(saved, output_loading_info=True)
    assert same_weights(loaded, model) and info["missing_keys"] == []


def test_the_configuration_of_another_class_is_refused(model, saved):
    edit_config(saved, _class_name="AutoencoderKL")
    with pytest.raises(ValueError, match=f"configuration of a AutoencoderKL, not of a {type(model).__name__}"):
        type(model).from_pretrained(saved)


def test_configuration_keys_that_nothing_reads_are_refused(model, saved):
    edit_config(saved, num_experts=4)
    with pytest.raises(ValueError, match="keys that nothing reads: num_experts"):
        type(model).from_pretrained(saved)


@pytest.mark.parametrize(
    "edit",
    [lambda weights: weights.popitem(), lambda weights: weights.update(extra=torch.zeros(1))],
    ids=["missing", "unknown"],
)
def test_weights_of_another_architecture_are_refused(model, saved, edit):
    edit_weights(saved, edit)
    with pytest.raises(ValueError, match="do not belong to this .*: 1 tensors are missing or unknown"):
        type(model).from_pretrained(saved)


def test_weights_of_another_width_are_refused(model, saved):
    edit_config(saved, static_dim=2 * WIDTH)
    with pytest.raises((ValueError, RuntimeError), match="shape|size"):
        type(model).from_pretrained(saved)


def test_truncated_weights_are_refused(model, saved):
    path = saved / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Exception, match="(?i)incomplete|invalid|deserializ|unable to load"):
        type(model).from_pretrained(saved)


def test_pickled_weights_are_refused_even_if_asked_for(model, saved):
    with pytest.raises(ValueError, match="loads weights from safetensors only"):
        type(model).from_pretrained(saved, use_safetensors=False)
    (saved / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(model.state_dict(), saved / "diffusion_pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        type(model).from_pretrained(saved)
