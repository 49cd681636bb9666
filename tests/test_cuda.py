"""On a GPU everything is as on a CPU: what a pipeline shows, what a step learns, how a run is resumed."""

import shutil

import pytest
import torch
from in_process import run_of_its_own
from tiny import RUN, SHORT_RUN, random_clips, seeded, tiny_pipeline
from torch.nn import functional as F
from train_divid import main, parse_args

from divid_diffusers import DiViDPipeline, SharedNoiseDDPMScheduler, build_models
from divid_diffusers.data.puppets import Puppets
from divid_diffusers.training import step_noise
from divid_diffusers.training.objective import TrainingModule, objective


pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Convolutions in full precision, or the card would round them."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def shown(pipe):
    pictures, motions = (clips / 2 + 0.5 for clips in random_clips(2).split(1))
    return pipe.swap(pictures, motions, generator=seeded(), output_type="pt").frames.cpu()


@pytest.mark.parametrize("how", [("to", "cuda"), ("enable_model_cpu_offload",), ("enable_sequential_cpu_offload",)])
def test_a_swap_is_the_same(how):
    pipe, (move, *where) = tiny_pipeline(), how
    expected = shown(pipe)
    getattr(pipe, move)(*where)
    torch.testing.assert_close(shown(pipe), expected, rtol=0, atol=1e-3)


def loss_and_gradient(device: str, autocast: bool):
    args = parse_args(["--from_scratch", "--num_frames=4"])
    torch.manual_seed(0)
    module = TrainingModule(*build_models("tiny", 3, 64, prediction_type="sample")).to(device)
    clips = random_clips(args.train_batch_size, 4, size=64).to(device)
    noise = step_noise.draw(args, 0, 0, 0, 1, 3, 64, 64, 1000).to(device)
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        loss = objective(module, clips, noise, SharedNoiseDDPMScheduler(prediction_type="sample"), args).loss
    loss.backward()
    gradient = torch.cat([each.grad.flatten() for each in module.parameters() if each.grad is not None])
    return loss.detach().cpu(), gradient.float().cpu()


@pytest.mark.parametrize("autocast, bound, cosine", [(False, 1e-4, 0.9999), (True, 0.02, 0.98)])
def test_a_step_learns_the_same(autocast, bound, cosine):
    (expected, wanted), (loss, gradient) = loss_and_gradient("cpu", False), loss_and_gradient("cuda", autocast)
    torch.testing.assert_close(loss, expected, rtol=bound, atol=0)
    assert F.cosine_similarity(gradient, wanted, dim=0) > cosine


def moments(output_dir, **flags):
    """The optimizer's, after a run of four steps."""
    flags = SHORT_RUN | RUN | {"num_inference_steps": 2, "output_dir": output_dir} | flags
    with run_of_its_own("train_divid.py", *(f"--{name}={value}" for name, value in flags.items())):
        main(parse_args())
    return torch.load(output_dir / "checkpoint-4" / "optimizer.bin", weights_only=False)["state"]


def test_a_run_is_resumed_where_it_was(tmp_path):
    unbroken = moments(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "cut" / "checkpoint-2")
    resumed = moments(tmp_path / "cut", resume_from_checkpoint="checkpoint-2")
    torch.testing.assert_close(resumed, unbroken, rtol=1e-3, atol=1e-6)


def test_a_recorded_step_learns(tmp_path):
    flags = SHORT_RUN | {"num_inference_steps": 2, "output_dir": tmp_path, "max_train_steps": 60, "num_puppets": 4}
    words = [f"--{name}={value}" for name, value in flags.items() if name != "checkpointing_steps"]
    with run_of_its_own("train_divid.py", "--cuda_graph", "--from_scratch", *words):
        main(parse_args())
    pipe = DiViDPipeline.from_pretrained(tmp_path)
    clips = torch.stack([Puppets(4, num_frames=3)[i]["frames"] for i in range(4)]) / 255
    error = (pipe.reconstruct(clips, output_type="pt").frames - clips).square().mean()
    assert error < 0.8 * (clips.mean() - clips).square().mean()
