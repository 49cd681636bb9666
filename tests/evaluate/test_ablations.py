"""The paper's ablations from one command: every variant is another run, and a finished one is not run again."""

import json
import sys
from types import SimpleNamespace

import ablations
import evaluate
import pytest
import test_evaluate
import torch
import yaml
from in_process import run_of_its_own
from train_divid import main, new_models, parse_args

from divid_diffusers import DiViDPipeline


bars = test_evaluate.folder  # a fixture: a set, a judge of it, and models


@pytest.fixture
def runs(monkeypatch):
    """Training in this process, which importing takes longer than; the flags of every run."""
    started = []

    def run(command, check):
        assert command[0] == sys.executable and command[1].endswith("train_divid.py") and check
        started.append(command[2:])
        with run_of_its_own():
            main(parse_args(command[2:]))

    monkeypatch.setattr(ablations, "subprocess", SimpleNamespace(run=run))
    return started


def test_two_steps_give_a_table_and_the_same_command_again_neither_trains_nor_measures(
    tmp_path, runs, capsys, monkeypatch
):
    base = {
        "num_frames": 3,
        "train_batch_size": 2,
        "num_puppets": 7,
        "num_inference_steps": 1,
        "checkpointing_steps": 9,
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    words = [f"--config={tmp_path / 'base.yaml'}", f"--output_dir={tmp_path / 'out'}", "--steps=2"]
    words += ["--num_clips=3", "--num_pairs=3", "--seeds=1", "--only", "shared-noise"]
    ablations.main(words)
    assert ["--no-shared_noise" in run for run in runs] == [False, True]
    (root,) = (tmp_path / "out").iterdir()
    assert DiViDPipeline.from_pretrained(root / "shared-noise-0").unet.config.shared_noise is False
    printed = capsys.readouterr().out.partition("2 steps, 1 of 1 seeds, validation clips of puppets")[2]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line[:2] == "| "]
    assert rows[0] == ["without", "PSNR, dB", "motion error", "identity kept, %", "motion kept, %"]
    assert [row[0] for row in rows[1:]] == ["nothing", "shared-noise"] and all("(" in cell for cell in rows[2][1:])
    monkeypatch.setitem(evaluate.SECTIONS, "true_swap", lambda *_: pytest.fail("measured a second time"))
    ablations.main(words)
    assert len(runs) == 2 and capsys.readouterr().out.endswith(printed)


def test_a_prepared_set_is_scored_by_its_judge_on_validation_clips(bars, tmp_path):
    args = ablations.parse_args([f"--dataset={bars / 'bars'}", f"--judge={bars / 'judge'}", "--num_pairs=6"])
    found = ablations.measure({"base-0": bars / "divid", "other-0": bars / "divid"}, "swap", tmp_path, args)
    values = [[figure(each) for figure in ablations.FIGURES["swap"].values()] for each in found.values()]
    assert values[0] == values[1] and all(0 <= value <= 100 for value in values[0])
    assert json.loads((tmp_path / "results.json").read_text())["settings"]["split"] == "validation"


@pytest.mark.parametrize("bias", ablations.BIASES)
def test_every_bias_is_a_run_that_can_be_trained(bias):
    base = parse_args(["--config", str(ablations.TRAINING / "configs/recipe.yaml")])
    without = parse_args(["--config", base.config, *ablations.BIASES[bias].split()])
    changed = {name for name, value in vars(base).items() if getattr(without, name) != value} - {"command", "given"}
    assert 1 <= len(changed) <= 2
    new_models(without, (3, 64), [{"frames": torch.zeros(10, 3, 64, 64, dtype=torch.uint8)}] * 3)


def test_the_time_varying_bottleneck_is_taken_away_by_one_noise_level():
    from divid_diffusers.training import step_noise

    args = parse_args(ablations.BIASES["time-varying-bottleneck"].split())
    assert (step_noise.draw(args, 0, 0, 0, 1, 1, 1, 1, 1000).timesteps == 999).all()


def test_a_table_says_how_far_from_the_base_of_the_same_seed():
    found = {"base": [{"x": 10.0}, {"x": 20.0}], "other": [{"x": 11.0}, {"x": 21.0}]}
    rows = ablations.table(found, {"x": lambda each: each["x"]}).splitlines()
    assert rows[2:] == ["| nothing | 15.00 ± 63.53 |", "| other | 16.00 ± 63.53 (+1.00 ± 0.00) |"]
    one = {name: results[:1] for name, results in found.items()}
    assert ablations.table(one, {"x": lambda each: each["x"]}).endswith("| other | 11.00 (+1.00) |")


def test_other_variants_take_the_place_of_the_biases():
    args = ablations.parse_args(["--steps=5", "--", "", "--motion_weight 0", "--no-residual --seed 3"])
    assert ablations.variants_of(args) == {
        "base": "", "motion_weight-0": "--motion_weight 0", "no-residual-seed-3": "--no-residual --seed 3"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seeds=0"], "is not a whole number of at least 1"),
        (["--dataset=data/mine"], "--judge is missing"),
        (["--config=nowhere.yaml"], "There is no config file at nowhere.yaml"),
    ],
)
def test_what_cannot_work_is_refused(words, sentence, capsys):
    with pytest.raises(SystemExit):
        ablations.parse_args(words)
    assert sentence in capsys.readouterr().err
