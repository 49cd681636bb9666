"""Flags win over the config file, which wins over the defaults; what cannot work is refused before anything starts."""

import argparse
import ast
from pathlib import Path

import numpy as np
import preparation
import pytest
import train_baseline
import train_judge
import yaml
from trainer.base import BASES, base
from trainer.checks import RULES
from trainer.flags import flags_shown

from divid_diffusers import build_pipeline


TRAINING = Path(__file__).parents[2] / "training"
from trainer.arguments import parse_args  # noqa: E402


@pytest.fixture
def config(tmp_path):
    def write(**values):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        return ["--config", str(path)]

    return write


def test_flags_win_over_the_config_file_which_wins_over_the_defaults(config):
    path = config(train_batch_size=3, learning_rate=2e-3, gradient_checkpointing=True)
    args = parse_args([*path, "--train_batch_size", "5", "--no-gradient_checkpointing"])
    assert (args.train_batch_size, args.learning_rate, args.gradient_checkpointing) == (5, 2e-3, False)
    assert parse_args(path).gradient_checkpointing is True
    assert args.num_frames == parse_args([]).num_frames


def test_numbers_in_scientific_notation_are_numbers(tmp_path):
    (tmp_path / "config.yaml").write_text("learning_rate: 1e-4\n")
    assert parse_args(["--config", str(tmp_path / "config.yaml")]).learning_rate == 1e-4


CONFIGS = [
    path for path in sorted((TRAINING / "configs").glob("*.yaml")) if path.stem.startswith(("paper", "recipe", "tiny"))
]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_configs_are_accepted(path):
    parse_args(["--config", str(path)])


def test_the_recipe_is_the_default_and_the_paper_has_its_own(config):
    recipe = yaml.safe_load((TRAINING / "configs" / "recipe.yaml").read_text())
    for flags in ([], config(seed=1)):
        args = vars(parse_args(flags))
        assert {name: args[name] for name in recipe} == recipe
    paper = ["--preset", "paper"], config(preset="paper"), ["--config", str(TRAINING / "configs" / "paper.yaml")]
    for flags in paper:
        args = parse_args(flags)
        assert (args.prediction_type, args.learning_rate, args.frames_per_clip) == ("epsilon", 1e-4, 10)
        assert args.invariance_weight == args.motion_weight == args.dynamic_stretch == 0 and args.timestep_bias == 1


def test_the_paper_denoises_all_frames_and_the_recipe_some():
    assert parse_args(["--preset", "paper", "--num_frames", "7"]).frames_per_clip == 7
    assert parse_args(["--num_frames", "7"]).frames_per_clip == 4
    assert parse_args(["--num_frames", "3"]).frames_per_clip == 3  # a default never stands in the way


BAD_FLAGS = {
    "--train_batch_size 0": "--train_batch_size is 0",
    "--max_train_steps -1": "--max_train_steps is -1",
    "--gradient_accumulation_steps 0": "--gradient_accumulation_steps is 0",
    "--frames_per_clip 11": "--frames_per_clip is 11",
    "--huber_scale 0": "--huber_scale is 0.0",
    "--huber_scale nan": "--huber_scale is nan",
    "--invariance_weight=-1": "--invariance_weight is -1.0",
    "--invariance_weight nan": "--invariance_weight is nan",
    "--static_dropout 1": "--static_dropout is 1.0",
    "--dynamic_dropout=-0.1": "--dynamic_dropout is -0.1",
    "--frame_sampling all": "--frame_sampling",
    "--preset huge": "--preset",
    "--prediction_type flow": "--prediction_type",
    "--learning_rate fast": "--learning_rate",
    "--no_such_flag 1": "--no_such_flag",
    "--ema_max_decay 1.5": "--ema_max_decay is 1.5",
    "--max_grad_norm=-1": "--max_grad_norm is -1.0",
    "--validation_steps=-1": "--validation_steps is -1",
    "--max_train_minutes nan": "--max_train_minutes is nan",
    "--timestep_bias nan": "--timestep_bias is nan",
    "--learning_rate inf": "--learning_rate is inf",
    "--learning_rate=-1e-3": "--learning_rate is -0.001",
    "--adam_beta1 1": "--adam_beta1 is 1.0",
    "--seed=-1": "--seed is -1",
    "--seed 4294967296": "--seed is 4294967296",
    "--lr_scheduler warm": "--lr_scheduler",
    "--lr_scheduler constant --lr_warmup_steps 5": "--lr_warmup_steps is 5",
    "--report_to nowhere": "--report_to is 'nowhere'",
    "--num_validation_clips 0": "--num_validation_clips is 0",
    "--num_puppets 0": "--num_puppets is 0",
    "--num_frames 0": "--num_frames is 0",
    "--num_inference_steps 0": "--num_inference_steps is 0",
    "--dataloader_num_workers=-1": "--dataloader_num_workers is -1",
    "--checkpoints_total_limit 0": "--checkpoints_total_limit is 0",
    "--push_to_hub --hub_model_id a/b/c": "--hub_model_id is 'a/b/c'",
}


@pytest.mark.parametrize("flags", BAD_FLAGS)
def test_flags_that_cannot_work_are_refused_by_name(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_args(flags.split())
    assert stop.value.code == 2
    assert BAD_FLAGS[flags] in capsys.readouterr().err


def refusal(arguments, capsys):
    """The sentence, whether it is the exit's own or argparse's."""
    with pytest.raises(SystemExit) as stop:
        parse_args(arguments)
    assert stop.value.code not in (None, 0)
    return f"{stop.value.code} {capsys.readouterr().err}"


def test_a_missing_config_file_is_named(capsys):
    assert "There is no config file at nowhere.yaml" in refusal(["--config", "nowhere.yaml"], capsys)


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rat": 1},
        {"train_batch_size": 0},
        {"train_batch_size": "many"},
        {"preset": "huge"},
        {"prediction_type": "flow"},
        {"pixel_shortcut": "false"},
        {"push_to_hub": 1},
        {"max_train_steps": 1.9},
        {"max_train_steps": 2.0},
        {"num_frames": True},
        {"learning_rate": True},
        {"learning_rate": float("nan")},
        {"learning_rate": [1e-3]},
        {"train_batch_size": None},
        {"dataset": False},
        {"help": True},
        {"config": "another.yaml"},
    ],
    ids=str,
)
def test_a_config_file_that_cannot_work_is_refused_by_name(config, values, capsys):
    assert next(iter(values)) in refusal(config(**values), capsys)


def test_a_value_that_is_set_twice_is_refused(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("seed: 1\nnum_frames: 5\nseed: 2\n")
    assert "sets seed twice" in refusal(["--config", str(tmp_path / "config.yaml")], capsys)


def test_no_limit_of_checkpoints_can_be_said_in_a_file(tmp_path):
    (tmp_path / "config.yaml").write_text("checkpoints_total_limit: null\n")
    assert parse_args(["--config", str(tmp_path / "config.yaml")]).checkpoints_total_limit is None


def test_every_number_that_a_trainer_takes_has_a_rule(monkeypatch):
    parsers = []
    real = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda self, *a: parsers.append(self) or real(self, *a))
    for parse, argv in ((parse_args, []), (train_baseline.parse_args, []), (train_judge.parse_args, JUDGE)):
        parse(argv)
    numbers = {action.dest for parser in parsers for action in parser._actions if action.type in (int, float)}
    assert len(numbers) > 30 and numbers == set(RULES)


JUDGE = ["--dataset=clips", "--output_dir=judge"]


@pytest.mark.parametrize("flag", ["learning_rate=nan", "zoom=0.9", "brightness=2", "shift=-1", "blur=-1", "seed=-1"])
def test_the_judge_is_checked_by_the_same_rules(flag, capsys):
    with pytest.raises(SystemExit):
        train_judge.parse_args([*JUDGE, f"--{flag}"])
    assert f"--{flag.split('=')[0]} is " in capsys.readouterr().err


def test_a_tracker_that_is_not_installed_is_refused_at_the_start(monkeypatch, capsys):
    monkeypatch.setattr("trainer.checks.get_available_trackers", lambda: ["tensorboard"])
    assert "--report_to is wandb, which is not installed" in refusal(["--report_to", "wandb"], capsys)


@pytest.mark.parametrize("tracker", ["wandb", "all"])
def test_a_token_is_told_to_no_tracker(monkeypatch, capsys, tracker):
    monkeypatch.setattr("trainer.checks.get_available_trackers", lambda: ["tensorboard", "wandb"])
    assert "--hub_token would be uploaded" in refusal(["--report_to", tracker, "--hub_token", "hf_x"], capsys)
    assert "hf_x" not in str(flags_shown(parse_args(["--hub_token", "hf_x"])))


def test_paths_of_this_machine_are_on_no_card_and_told_to_no_tracker(config, tmp_path):
    path = config(seed=3)
    args = parse_args(
        [*path, "--dataset", str(tmp_path / "mine"), "--output_dir", "outputs/run", "--logging_dir", "~/logs"]
    )
    assert str(tmp_path) not in args.command and "~" not in args.command
    assert "--config config.yaml --dataset mine --output_dir outputs/run" in args.command
    assert str(tmp_path) not in str(flags_shown(args)) and flags_shown(args)["dataset"] == "mine"


# --- a checkpoint to start from ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    fields = {"prediction_type": "sample", "pixel_shortcut": True, "static_dropout": 0.05, "dynamic_dropout": 0.1}
    build_pipeline("tiny", num_inference_steps=7, first_frame="null", **fields).save_pretrained(folder)
    return ["--pretrained_model_name_or_path", str(folder)]


def test_what_is_not_given_is_the_checkpoints(pretrained):
    args = parse_args(pretrained)
    assert (args.prediction_type, args.pixel_shortcut, args.first_frame) == ("sample", True, "null")
    assert (args.static_dropout, args.dynamic_dropout, args.num_inference_steps) == (0.05, 0.1, 7)
    assert (args.preset, args.shrink_input, args.calibrate_tokens) == ("tiny", False, False)


def test_the_recipe_looks_at_the_static_frame_where_frames_are_what_is_predicted(capsys):
    assert parse_args([]).reference_frame and not parse_args(["--preset=paper"]).reference_frame
    assert not parse_args(["--prediction_type=epsilon"]).reference_frame
    assert "needs --prediction_type sample" in refusal(["--reference_frame", "--prediction_type=epsilon"], capsys)


def test_a_checkpoint_can_learn_to_look_and_cannot_unlearn_it(pretrained, tmp_path, capsys):
    assert not parse_args(pretrained).reference_frame
    assert parse_args([*pretrained, "--reference_frame"]).reference_frame
    build_pipeline("tiny", prediction_type="sample", reference_frame=True).save_pretrained(tmp_path)
    looks = ["--pretrained_model_name_or_path", str(tmp_path)]
    assert parse_args(looks).reference_frame
    assert "--no-reference_frame" in refusal([*looks, "--no-reference_frame"], capsys)


def test_what_may_change_does_and_checks_know_what_the_checkpoint_decides(pretrained, config):
    args = parse_args(
        [*pretrained, "--static_dropout", "0.2", "--num_inference_steps", "3", "--invariance_weight", "0.05"]
    )
    assert (args.static_dropout, args.dynamic_dropout, args.num_inference_steps) == (0.2, 0.1, 3)
    same = config(preset="tiny", pixel_shortcut=True, calibrate_tokens=True, prediction_type="sample")
    assert parse_args([*same, *pretrained]).calibrate_tokens is False  # a config for a start, used to go on


@pytest.mark.parametrize(
    "flags",
    [
        "--preset paper",
        "--prediction_type epsilon",
        "--no-pixel_shortcut",
        "--shrink_input",
        "--first_frame context",
        "--no-residual",
        "--static_source all",
        "--no-shared_noise",
        "--no-token_modulation",
        "--calibrate_tokens",
    ],
)
def test_what_the_weights_are_not_made_for_is_refused_by_name(pretrained, flags, capsys):
    assert flags.split()[0].replace("--no-", "--") in refusal([*pretrained, *flags.split()], capsys)


# --- what own clips start from --------------------------------------------------------------------------------------


def prepared(folder, shape):
    clips = [preparation.Clip(f"c{i}", "drawn", ("train", "test")[i % 2], {}) for i in range(2)]
    plan = preparation.Plan(clips, lambda clip: np.zeros((2, *shape), np.uint8), shape, {}, "every second")
    preparation.prepare(plan, folder)
    return ["--dataset", str(folder)]


@pytest.fixture(scope="module")
def own_clips(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("own") / "clips", (64, 64, 3))


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_own_clips_start_from_the_base_of_their_size_and_take_what_it_decides(own_clips, preset):
    args = parse_args([*own_clips, *(["--preset=small"] if preset == "small" else [])])
    assert Path(args.pretrained_model_name_or_path).resolve() == BASES[preset].resolve()
    config = yaml.safe_load((BASES[preset] / "encoder" / "config.json").read_text())
    assert (args.pixel_shortcut, args.calibrate_tokens) == (config["pixel_shortcut"], False)
    assert args.command.count("pretrained") == 0  # the command on a card starts from there by itself
    assert args.reference_frame  # whether or not the base looks at the static frame so far


@pytest.mark.parametrize("flags", ["--from_scratch", "--preset paper", "--dataset puppets-mid", "--pretrained_vae v"])
def test_what_the_base_is_not_for_starts_from_random_weights(own_clips, flags):
    assert parse_args([*own_clips, *flags.split()]).pretrained_model_name_or_path is None


def test_frames_that_the_base_does_not_take_start_from_random_weights(own_clips, tmp_path):
    grey = prepared(tmp_path / "grey", (64, 64, 1))
    for dataset in (grey[1], f"{own_clips[1]}+{grey[1]}", f"puppets+{own_clips[1]}"):
        assert parse_args(["--dataset", dataset]).pretrained_model_name_or_path is None


def test_a_checkpoint_that_is_named_is_not_replaced_by_the_base(own_clips, pretrained):
    assert parse_args([*own_clips, *pretrained]).pretrained_model_name_or_path == pretrained[1]
    named = [*own_clips, "--from_scratch", *pretrained]  # as by a config that starts from random weights, to go on
    assert parse_args(named).pretrained_model_name_or_path == pretrained[1]


def test_a_run_that_is_resumed_keeps_its_start(own_clips):
    args = parse_args([*own_clips, "--from_scratch"])
    args.from_scratch = False  # of a run from before there was a base
    assert base(args, {}) is not None and base(args, {"pretrained_model_name_or_path": None}) is None


def test_what_the_base_is_not_made_for_needs_from_scratch(own_clips, capsys):
    assert "or give --from_scratch" in refusal([*own_clips, "--static_source", "all"], capsys)
    args = parse_args([*own_clips, "--static_source", "all", "--from_scratch"])
    assert args.static_source == "all"


def test_no_checkpoint_is_a_sentence(tmp_path, capsys):
    assert "is no pipeline of DiViD" in refusal(["--pretrained_model_name_or_path", str(tmp_path)], capsys)


@pytest.mark.parametrize("text", ["- a\n- list\n", "just words\n", "a: [1, 2\n"])
def test_a_file_that_is_no_config_is_refused_by_name(tmp_path, text, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert str(path) in refusal(["--config", str(path)], capsys)


def test_the_command_on_a_card_is_rebuilt_from_what_was_given_and_never_holds_the_token(config):
    path = config(hub_token="hf_from_the_file")
    args = parse_args([*path, "--hub_token", "hf_secret", "--learning_rate=1e-3", "--no-push_to_hub", "--seed", "7"])
    assert args.hub_token == "hf_secret"
    assert "hf_" not in args.command.replace(path[1], "")
    assert (
        args.command.endswith("--learning_rate 0.001 --seed 7 --no-push_to_hub")
        and "--train_batch" not in args.command
    )


@pytest.mark.parametrize("flag", ["--hub_tok", "--hub_t", "--learning_r"])
def test_an_abbreviation_is_refused_by_name(flag, capsys):
    assert f"unrecognized arguments: {flag}" in refusal([flag, "1"], capsys)


def test_no_script_takes_abbreviations():
    """An abbreviated secret would pass every filter that knows the flag's name."""
    root = TRAINING.parent
    for path in [
        path
        for folder in ("benchmarks", "divid_diffusers", "examples", "training")
        for path in root.glob(f"{folder}/**/*.py")
    ]:
        for call in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]:
            if getattr(call.func, "attr", None) in ("ArgumentParser", "add_parser"):
                assert any(word.arg == "allow_abbrev" and not word.value.value for word in call.keywords), path
