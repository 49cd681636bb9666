"""A checkpoint comes back as it was, or is refused in a sentence: the same strict loading serves both models."""

import json

import diffusers
import pytest
import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from tiny import WIDTH, random_clips, random_tokens, same_weights, tiny_encoder, tiny_unet
from tiny_baselines import tiny_baseline


@pytest.fixture(params=[tiny_encoder, tiny_unet, tiny_baseline], ids=["encoder", "unet", "baseline"])
def model(request):
    return request.param()


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path)
    return tmp_path


def answer(model):
    """What a model says of clips, whichever it is."""
    clips, (static, dynamic) = random_clips(), random_tokens()
    if isinstance(model, diffusers.UNet2DConditionModel):
        return model(clips, 5, static=static, dynamic=dynamic).sample
    return getattr(model, "encode", model)(clips).dynamic


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


def test_a_model_is_quantised_while_loading_saved_and_loaded_again(model, saved, tmp_path):
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig

    config = diffusers.TorchAoConfig(Int8WeightOnlyConfig())
    quantised = type(model).from_pretrained(saved, quantization_config=config, torch_dtype=torch.float32)
    weights = {type(parameter.data).__name__ for parameter in quantised.parameters()} - {"Tensor"}
    assert weights == {"Int8Tensor"} and quantised.is_quantized
    quantised.save_pretrained(tmp_path / "int8")
    again = type(model).from_pretrained(tmp_path / "int8", torch_dtype=torch.float32)
    with torch.no_grad():
        exact, rounded, reloaded = map(answer, (model, quantised, again))
    assert torch.equal(rounded, reloaded)
    assert 0 < (rounded - exact).norm() < 0.1 * exact.norm()


def test_an_average_of_weights_is_saved_and_goes_on_where_it_was(model, tmp_path):
    average = EMAModel(model.parameters(), decay=0.9, model_cls=type(model), model_config=model.config)
    average.optimization_step = 7
    average.save_pretrained(tmp_path)
    again = EMAModel.from_pretrained(tmp_path, type(model))
    assert (again.decay, again.optimization_step) == (0.9, 7)
    assert all(map(torch.equal, again.shadow_params, average.shadow_params))
    assert same_weights(type(model).from_pretrained(tmp_path), model)


def test_a_model_is_loaded_from_shards_and_onto_devices(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = type(model).from_pretrained(tmp_path, device_map="auto", max_memory={"cpu": "1GB"})
    assert same_weights(loaded, model) and loaded.hf_device_map


@pytest.mark.parametrize("name", ["gone", "examples/gone", "./gone", "a/b/c", "~/gone here"])
def test_a_folder_that_does_not_exist_is_called_so(model, name):
    with pytest.raises(OSError, match=r"There is no folder '.*gone.*|There is no folder 'a/b/c' in ") as error:
        type(model).from_pretrained(name)
    assert "owner/name" in str(error.value) and "stacktrace" not in str(error.value)


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(model, saved, value):
    file = saved / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[-1]
    weights[name].view(-1)[0] = value
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"not finite, '{name}' first"):
        type(model).from_pretrained(saved)
