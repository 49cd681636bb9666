"""
Training a baseline: it saves a pipeline that loads, and cut short and resumed it ends where it would have ended
anyway.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from in_process import run_of_its_own
from safetensors.torch import load_file
from tiny import RUN, SHORT_RUN, random_clips
from tiny_baselines import METHODS
from train_baseline import BaselineRecipe, main, parse_args
from trainer.recipe import BatchPosition

from divid_diffusers import SequentialVAEPipeline, build_baseline
from divid_diffusers.training.augment import recolour, stretch


TRAINING = Path(__file__).parents[2] / "training"
FLAGS = SHORT_RUN | {"num_frames": 2, "perceptual_weight": 0}
AUGMENTED = {"dynamic_recolour": 0.4, "dynamic_stretch": 0.15}
# SPYL in the form with BatchNorm, its contrast coming in on the way.
RUNS = {
    "dbse": RUN | {"method": "dbse", "validation_steps": 4},
    "spyl": RUN | {"method": "spyl", "form": "published", "contrast_from_epoch": 1, "ema_max_decay": 0},
}


def words(**flags):
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in (FLAGS | flags).items()]


def train(output_dir, **flags):
    with run_of_its_own():
        main(parse_args(words(output_dir=output_dir, **flags)))


@pytest.fixture(scope="module", params=RUNS)
def unbroken(request, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp(request.param)
    train(output_dir, **RUNS[request.param])
    return request.param, output_dir


def test_a_run_leaves_a_pipeline_that_loads_and_reconstructs(unbroken, diffusers_warnings):
    method, output_dir = unbroken
    pipe = SequentialVAEPipeline.from_pretrained(output_dir)
    assert diffusers_warnings == [] and type(pipe.model) is METHODS[method]
    frames = pipe.reconstruct(torch.rand(1, 3, 3, 64, 64), output_type="pt").frames
    assert frames.shape == (1, 3, 3, 64, 64) and frames.isfinite().all()
    card = (output_dir / "README.md").read_text()
    assert f"- {method}" in card and "4 steps of 4 clips of 2 frames" in card and "no perceptual loss" in card


def test_the_pipeline_holds_the_moving_average_unless_there_is_none(unbroken):
    method, output_dir = unbroken
    last = load_file(output_dir / "checkpoint-4" / "model.safetensors")
    trained = SequentialVAEPipeline.from_pretrained(output_dir).model.state_dict()
    assert {name for name in last if not name.startswith("pool.")} == {f"model.{name}" for name in trained}
    assert (last["pool.count"] > 0) if method == "spyl" else not any(name.startswith("pool.") for name in last)
    same = all(torch.allclose(trained[name], last[f"model.{name}"], rtol=1e-5, atol=1e-7) for name in trained)
    assert same == (method == "spyl")


def test_a_resumed_run_ends_where_the_unbroken_one_does(unbroken, tmp_path):
    method, output_dir = unbroken
    shutil.copytree(output_dir / "checkpoint-2", tmp_path / "checkpoint-2")
    train(tmp_path, **RUNS[method], resume_from_checkpoint="latest")
    file = "model/diffusion_pytorch_model.safetensors"
    assert (output_dir / file).read_bytes() == (tmp_path / file).read_bytes()
    weights = [load_file(run / "checkpoint-4" / "model.safetensors") for run in (output_dir, tmp_path)]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    states = [torch.load(run / "checkpoint-4/optimizer.bin", weights_only=False) for run in (output_dir, tmp_path)]
    torch.testing.assert_close(*[state["state"] for state in states], rtol=0, atol=0)
    before = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert not torch.equal(before["model.dynamic_head.bias"], weights[0]["model.dynamic_head.bias"])


def test_held_out_clips_are_validated_as_those_of_divid(unbroken):
    method, output_dir = unbroken
    if method == "spyl":
        assert not (output_dir / "validation").exists()
        return
    figures = [json.loads(line) for line in (output_dir / "validation/figures.jsonl").read_text().splitlines()]
    assert [each["step"] for each in figures] == [4] and figures[0]["psnr"] > 0 and "motion_error" in figures[0]
    assert (output_dir / "validation/step-000004.png").stat().st_size > 0
    assert "| psnr |" in (output_dir / "README.md").read_text()


# --- the recipe ----------------------------------------------------------------------------------------------------


def recipe(num_train_clips=7, **flags):
    args = parse_args(words(**flags))
    return BaselineRecipe(build_baseline(args.method), num_train_clips, torch.device("cpu"), args)


@pytest.mark.parametrize("method", METHODS)
def test_processes_cut_the_draws_of_one_process_with_the_whole_batch(method):
    whole = recipe(method=method, train_batch_size=4).noise(BatchPosition(3, 0, 0, 1))
    parts = [recipe(method=method, train_batch_size=2).noise(BatchPosition(3, 0, rank, 2)) for rank in range(2)]
    for name in whole:
        assert torch.equal(torch.cat([part[name] for part in parts]), whole[name]), name


def test_the_augmentations_of_divid_are_offered_to_every_method():
    """The same rule as the draws of `step_noise.draw`, of other numbers."""
    clips = random_clips(2, 2)[..., :1, :1].expand(-1, -1, -1, 64, 64) * torch.linspace(0, 1, 64)
    for method in METHODS:
        plain, augmented = (recipe(method=method, **flags) for flags in ({}, AUGMENTED))
        noise = augmented.noise(BatchPosition(0, 0, 0, 1))
        assert noise["colour"].shape[1:] == (3, 3) and noise["shade"].shape[1:] == (3,)
        seen = []
        augmented.module.model.embed_view = lambda view, seen=seen: seen.append(view) or plain.module.model.embed(view)
        augmented.losses(augmented.module, clips, BatchPosition(0, 0, 0, 1))
        expected = stretch(recolour(clips, noise["colour"][:2], noise["shade"][:2]), noise["stretch"][:2])
        torch.testing.assert_close(seen[0], expected)
        plain.module.model.embed_view = lambda view: seen.append(view)
        plain.losses(plain.module, clips, BatchPosition(0, 0, 0, 1))
        assert seen[1] is None, "off as published"
    still = plain.noise(BatchPosition(0, 0, 0, 1))
    assert torch.equal(still["colour"][0], torch.eye(3)) and (still["stretch"] == 1).all() and not still["shade"].any()


def test_spyl_keeps_its_pool_from_step_to_step_and_forgets_what_it_looked_at_beside_training():
    one = recipe(method="spyl", contrast_from_epoch=0)
    clips, counts = random_clips(2, 2)[..., :1, :1].expand(-1, -1, -1, 64, 64), []
    for step in range(2):
        one.losses(one.module, clips, BatchPosition(step, 0, 0, 1))
        counts.append(int(one.module.pool.count))
    one.losses(one.module.eval(), clips, BatchPosition(2, 0, 0, 1))
    with torch.no_grad():
        one.losses(one.module.train(), clips, BatchPosition(2, 0, 0, 1))
    assert counts == [8, 16] and int(one.module.pool.count) == 16


def test_no_two_micro_batches_share_their_draws():
    one = recipe(gradient_accumulation_steps=2)
    draws = [one.noise(BatchPosition(step, micro, 0, 1))["static"] for step in range(2) for micro in range(2)]
    assert not any(torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_contrast_comes_in_at_its_epoch():
    one = recipe(num_train_clips=8, method="spyl", train_batch_size=2, contrast_from_epoch=1.5)
    assert [one.contrasts(BatchPosition(step, 0, 0, 1)) for step in (0, 5, 6, 100)] == [False, False, True, True]
    assert one.contrasts(BatchPosition(3, 0, 0, 2))
    clips = torch.rand(2, 2, 3, 64, 64)
    for step, expected in ((5, False), (6, True)):
        assert ("static_nce" in one.losses(one.module, clips, BatchPosition(step, 0, 0, 1))) == expected


def test_the_perceptual_loss_is_taken_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr("train_baseline.VGGPerceptualDistance", lambda: torch.nn.PairwiseDistance())
    monkeypatch.setattr(torch.nn.PairwiseDistance, "forward", lambda self, x, y: (x - y).square().mean((1, 2, 3)))
    for weight, form, expected in ((3, "divid", True), (0, "divid", False), (3, "published", False)):
        one = recipe(perceptual_weight=weight, form=form)
        losses = one.losses(
            one.module, random_clips(2, 2)[..., :1, :1].expand(-1, -1, -1, 64, 64), BatchPosition(0, 0, 0, 1)
        )
        assert ("perceptual" in losses) == expected
    assert recipe(perceptual_weight=3).options["perceptual_weight"] == 3


# --- flags ---------------------------------------------------------------------------------------------------------


CONFIGS = [path for method in METHODS for path in sorted((TRAINING / "configs").glob(f"{method}_*.yaml"))]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_configs_are_accepted(path):
    assert path.stem.startswith(parse_args(["--config", str(path)]).method)


BAD_FLAGS = {
    "--method dsvae": "--method",
    "--form own": "--form",
    "--perceptual_weight=-1": "--perceptual_weight is -1.0",
    "--form published --gradient_checkpointing": "--gradient_checkpointing",
    "--form published --pixel_shortcut": "--pixel_shortcut",
    "--train_batch_size 0": "--train_batch_size is 0",
}


@pytest.mark.parametrize("flags", BAD_FLAGS)
def test_flags_that_cannot_work_are_refused_by_name(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_args(flags.split())
    assert stop.value.code == 2 and BAD_FLAGS[flags] in capsys.readouterr().err


def test_without_torchvision_a_run_ends_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(SystemExit, match="pass --perceptual_weight 0"):
        train(tmp_path, perceptual_weight=10)


def test_the_command_of_the_readme_trains(tmp_path):
    command = [sys.executable, str(TRAINING / "train_baseline.py"), *words(output_dir=tmp_path / "run")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "accelerate launch training/train_baseline.py --num_puppets 7" in (tmp_path / "run/README.md").read_text()
