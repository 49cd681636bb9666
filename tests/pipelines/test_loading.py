"""A saved pipeline comes back to the bit, from disk and from a Hub; half a checkpoint, or another's, does not."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import AutoModel, DDPMPipeline, DiffusionPipeline, EulerDiscreteScheduler, UNet2DModel
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES
from hub_stand_in import HubStandIn
from safetensors.torch import load_file, save_file
from tiny import random_tokens, same_weights, seeded, tiny_pipeline

from divid_diffusers import (
    DiViDPipeline,
    DiViDSequenceEncoder,
    DiViDUNet2DConditionModel,
    SequentialVAEPipeline,
    SharedNoiseDDPMScheduler,
)


TESTS = Path(__file__).parents[1]


def decode(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe(*random_tokens(), generator=seeded(), output_type="pt").frames


def run_python(code, **environment):
    """A new process that has the helpers of the tests, and its output."""
    code = f"import sys\nsys.path[:0] = [{str(TESTS)!r}]\n" + code
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def saved(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


# --- from disk -----------------------------------------------------------------------------------------------------


def test_a_saved_pipeline_comes_back_to_the_bit_and_silently(pipe, saved, diffusers_warnings):
    loaded = DiViDPipeline.from_pretrained(saved)
    assert type(loaded.encoder) is DiViDSequenceEncoder and type(loaded.unet) is DiViDUNet2DConditionModel
    assert type(loaded.scheduler) is SharedNoiseDDPMScheduler
    assert same_weights(loaded.encoder, pipe.encoder) and same_weights(loaded.unet, pipe.unet)
    assert loaded.config.num_inference_steps == 3
    assert torch.equal(decode(loaded), decode(pipe))
    assert diffusers_warnings == []


def test_another_process_decodes_the_same_clip(pipe, saved, tmp_path):
    run_python(
        f"""
import torch
torch.set_num_threads(1)
from divid_diffusers import DiViDPipeline
from tiny import random_tokens, seeded
pipe = DiViDPipeline.from_pretrained({str(saved)!r})
torch.save(pipe(*random_tokens(), generator=seeded(), output_type="pt").frames, {str(tmp_path / "frames.pt")!r})
"""
    )
    assert torch.equal(torch.load(tmp_path / "frames.pt"), decode(pipe))


def test_the_default_number_of_steps_can_be_set_while_loading(saved):
    assert DiViDPipeline.from_pretrained(saved, num_inference_steps=7).config.num_inference_steps == 7


@pytest.mark.parametrize("argument", ["dtype", "torch_dtype"])
def test_weights_are_loaded_in_the_precision_asked_for(saved, argument):
    loaded = DiViDPipeline.from_pretrained(saved, **{argument: torch.bfloat16})
    assert {part.dtype for part in (loaded.encoder, loaded.unet)} == {torch.bfloat16}
    assert decode(loaded).isfinite().all()


def test_a_half_precision_variant_is_stored_beside_the_full_one(pipe, saved):
    full = decode(pipe)
    pipe.to(torch.float16).save_pretrained(saved, variant="fp16")
    names = {path.name for path in (saved / "unet").iterdir()}
    assert {"diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"} <= names
    half = DiViDPipeline.from_pretrained(saved, variant="fp16", dtype=torch.float16)
    assert half.unet.dtype == torch.float16 and same_weights(half.unet, pipe.unet)
    assert torch.equal(decode(DiViDPipeline.from_pretrained(saved)), full)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"])
def test_a_stock_scheduler_is_saved_and_loaded_with_the_pipeline(pipe, tmp_path, name):
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    pipe.save_pretrained(tmp_path)
    loaded = DiViDPipeline.from_pretrained(tmp_path)
    assert type(loaded.scheduler).__name__ == name
    assert torch.equal(decode(loaded), decode(pipe))


def test_a_component_can_be_replaced_while_loading(pipe, saved):
    scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    loaded = DiViDPipeline.from_pretrained(saved, scheduler=scheduler)
    assert loaded.scheduler is scheduler
    unet = DiViDUNet2DConditionModel.from_pretrained(saved, subfolder="unet")
    assert DiViDPipeline.from_pretrained(saved, unet=unet).unet is unet


@pytest.mark.parametrize("part", ["encoder", "unet"])
def test_diffusers_own_loader_finds_the_parts(pipe, saved, part):
    loaded = AutoModel.from_pretrained(str(saved), subfolder=part)
    assert type(loaded) is type(getattr(pipe, part)) and same_weights(loaded, getattr(pipe, part))


@pytest.mark.parametrize("part", ["encoder", "unet"])
def test_half_a_pipeline_is_loaded_saved_and_loaded_again(pipe, saved, tmp_path, part):
    half = DiViDPipeline.from_pretrained(saved, **{part: None})
    assert getattr(half, part) is None
    half.save_pretrained(tmp_path / "half")
    assert not (tmp_path / "half" / part).exists()
    again = DiViDPipeline.from_pretrained(tmp_path / "half")
    assert getattr(again, part) is None
    if part == "encoder":
        assert torch.equal(decode(again), decode(pipe))
    else:
        clip = torch.rand(1, 2, 3, 16, 16)
        assert same_weights(again.encoder, pipe.encoder)  # to the bit, where sums may depend on how they lie in memory
        torch.testing.assert_close(again.encode(clip).static, pipe.encode(clip).static)


def test_a_pipeline_is_quantised_while_loading_saved_and_loaded_again(pipe, saved, tmp_path):
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig

    config = diffusers.PipelineQuantizationConfig(
        quant_mapping={part: diffusers.TorchAoConfig(Int8WeightOnlyConfig()) for part in ("encoder", "unet")}
    )
    quantised = DiViDPipeline.from_pretrained(saved, quantization_config=config, torch_dtype=torch.float32)
    assert quantised.unet.is_quantized and quantised.encoder.is_quantized
    quantised.save_pretrained(tmp_path / "int8")
    again = DiViDPipeline.from_pretrained(tmp_path / "int8", torch_dtype=torch.float32)
    assert torch.equal(decode(again), decode(quantised))
    assert 0 < (decode(again) - decode(pipe)).abs().max() < 0.2


def test_diffusers_knows_our_package_by_the_names_of_the_base_classes():
    """Not a documented extension point. Without it, loading from the Hub refuses our components."""
    ours = LOADABLE_CLASSES["divid_diffusers"]
    assert ours == {name: LOADABLE_CLASSES["diffusers"][name] for name in ours}
    assert set(ours) == {"ModelMixin", "SchedulerMixin", "DiffusionPipeline"}


def test_the_index_names_our_package_and_classes_as_plain_strings(saved):
    index = json.loads((saved / "model_index.json").read_text())
    assert index["_class_name"] == "DiViDPipeline"
    assert index["encoder"] == ["divid_diffusers", "DiViDSequenceEncoder"]
    assert index["unet"] == ["divid_diffusers", "DiViDUNet2DConditionModel"]
    assert index["scheduler"] == ["divid_diffusers", "SharedNoiseDDPMScheduler"]


def test_the_generic_pipeline_class_needs_one_line_of_code_in_the_checkpoint_and_trust(pipe, saved):
    with pytest.raises(AttributeError, match="DiViDPipeline"):
        DiffusionPipeline.from_pretrained(saved)
    (saved / "pipeline.py").write_text("from divid_diffusers import DiViDPipeline\n")
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(saved, custom_pipeline="pipeline")
    loaded = DiffusionPipeline.from_pretrained(saved, custom_pipeline="pipeline", trust_remote_code=True)
    assert type(loaded) is DiViDPipeline
    assert torch.equal(decode(loaded), decode(pipe))


# --- from the Hub --------------------------------------------------------------------------------------------------


def test_a_pipeline_goes_to_the_hub_and_comes_back(pipe, saved, tmp_path):
    code = f"""
import torch
torch.set_num_threads(1)
from diffusers import AutoModel
from divid_diffusers import DiViDPipeline
from tiny import random_tokens, same_weights, seeded

pipe = DiViDPipeline.from_pretrained({str(saved)!r})
pipe.push_to_hub("org/divid-test")
loaded = DiViDPipeline.from_pretrained("org/divid-test")
unet = AutoModel.from_pretrained("org/divid-test", subfolder="unet")
assert type(unet) is type(pipe.unet) and same_weights(unet, pipe.unet)
torch.save(loaded(*random_tokens(), generator=seeded(), output_type="pt").frames, {str(tmp_path / "frames.pt")!r})
pipe.save_pretrained({str(tmp_path / "again")!r}, push_to_hub=True, repo_id="org/again", commit_message="Again")
try:
    DiViDPipeline.from_pretrained("org/nothing-here")
except OSError as error:
    print(error)
"""
    with HubStandIn() as hub:
        printed = run_python(code, **hub.environment(tmp_path / "cache"))
    assert torch.equal(torch.load(tmp_path / "frames.pt"), decode(pipe))
    files = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    for repo in ("org/divid-test", "org/again"):
        assert set(hub.repos[repo]) == files | {"README.md"}
        for weights in (path for path in files if path.endswith(".safetensors")):
            assert hub.repos[repo][weights] == (saved / weights).read_bytes()
    assert "nothing-here" in printed
    # Once downloaded, no Hub is needed.
    offline = {**hub.environment(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    run_python('from divid_diffusers import DiViDPipeline\nDiViDPipeline.from_pretrained("org/divid-test")', **offline)


# --- saving whole or not at all ------------------------------------------------------------------------------------


@pytest.fixture
def full_disk():
    """No file can grow beyond 40 KB: a real error of the operating system, in the middle of the weights."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def tree(folder):
    return {path.relative_to(folder) for path in folder.rglob("*")}


def test_a_full_disk_leaves_the_old_checkpoint_whole(pipe, saved, request):
    before, files = decode(pipe), tree(saved.parent)
    other = tiny_pipeline()
    assert not same_weights(other.unet, pipe.unet)
    request.getfixturevalue("full_disk")
    with pytest.raises(OSError, match="was not saved to .*checkpoint: .*Nothing there was left half-written"):
        other.save_pretrained(saved)
    assert torch.equal(decode(DiViDPipeline.from_pretrained(saved)), before)
    assert tree(saved.parent) == files


def test_a_full_disk_leaves_no_half_checkpoint(pipe, tmp_path, full_disk):
    with pytest.raises(OSError, match="was not saved"):
        pipe.save_pretrained(tmp_path / "new")
    assert tree(tmp_path) <= {Path("new")}


def test_a_folder_that_cannot_be_written_to_is_named(pipe, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        pipe.save_pretrained(tmp_path / "file")


def test_saving_over_a_checkpoint_replaces_it(pipe, saved):
    other = tiny_pipeline(num_inference_steps=9)
    other.save_pretrained(saved)
    loaded = DiViDPipeline.from_pretrained(saved)
    assert torch.equal(decode(loaded), decode(other)) and loaded.config.num_inference_steps == 9


# --- what is refused -----------------------------------------------------------------------------------------------


def test_pickled_weights_are_neither_written_nor_read(pipe, saved):
    with pytest.raises(ValueError, match="saves weights as safetensors only"):
        pipe.save_pretrained(saved, safe_serialization=False)
    with pytest.raises(ValueError, match="loads weights from safetensors only"):
        DiViDPipeline.from_pretrained(saved, use_safetensors=False)
    weights = saved / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        DiViDPipeline.from_pretrained(saved)


@pytest.mark.parametrize("part", ["encoder", "unet"])
def test_truncated_weights_are_refused(saved, part):
    weights = saved / part / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(Exception, match="(?i)safetensors|incomplete|invalid"):
        DiViDPipeline.from_pretrained(saved)


@pytest.mark.parametrize("part", ["encoder", "unet"])
def test_missing_weights_are_refused_and_not_made_up(saved, part):
    path = saved / part / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights.pop(next(iter(weights)))
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="do not belong to this"):
        DiViDPipeline.from_pretrained(saved)


def test_the_pipeline_of_another_model_is_refused(tmp_path):
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(16, block_out_channels=(8,), norm_num_groups=4, **blocks)
    DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="DiViDPipeline"):
        DiViDPipeline.from_pretrained(tmp_path)


def test_parts_of_two_checkpoints_are_refused(saved, tmp_path):
    tiny_pipeline(in_channels=1).save_pretrained(tmp_path / "grey")
    encoder = DiViDSequenceEncoder.from_pretrained(tmp_path / "grey", subfolder="encoder")
    with pytest.raises(ValueError, match="Encoder and UNet do not fit together: `in_channels` is 1 in one and 3"):
        DiViDPipeline.from_pretrained(saved, encoder=encoder)


def test_the_wrong_subfolder_is_refused(saved):
    with pytest.raises(ValueError, match="configuration of a DiViDUNet2DConditionModel, not of a DiViDSequenceEncode"):
        DiViDSequenceEncoder.from_pretrained(saved, subfolder="unet")


@pytest.mark.parametrize("pipeline", [DiViDPipeline, SequentialVAEPipeline])
@pytest.mark.parametrize("name", ["examples/divid-puppets-tiny", "gone", "./gone", "a/b/c", "~/gone", "/gone/at all"])
def test_a_folder_that_does_not_exist_is_called_so(pipeline, name, tmp_path, monkeypatch):
    """README's own path, from another folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError) as error:
        pipeline.from_pretrained(name)
    message = str(error.value)
    assert message.startswith(f"There is no folder '{Path(name).expanduser() if '~' in name else name}' in {tmp_path}")
    assert "owner/name" in message and "stacktrace" not in message


def test_a_path_may_begin_at_home(saved, monkeypatch):
    monkeypatch.setenv("HOME", str(saved.parent))
    assert DiViDPipeline.from_pretrained(f"~/{saved.name}").config.num_inference_steps == 3


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(OSError, match="model_index.json"):
        DiViDPipeline.from_pretrained(tmp_path)


def test_a_saved_pipeline_does_not_tell_where_it_was_loaded_from(tmp_path, pipe):
    pipe.save_pretrained(tmp_path / "first")
    DiViDPipeline.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    texts = [file.read_text() for file in (tmp_path / "second").rglob("*.json")]
    assert len(texts) == 4 and not any(str(tmp_path) in text for text in texts)
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "second").rglob("*") if file.is_file()}
    assert len(modes) == 1, "weights must be as readable as configurations"
