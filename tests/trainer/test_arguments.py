"""Flags win over the config file, which wins over the defaults; what cannot work is refused before anything starts."""

import ast
from pathlib import Path

import pytest
import yaml


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


CONFIGS = [path for path in sorted((TRAINING / "configs").glob("*.yaml")) if path.stem.startswith(("paper", "tiny"))]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_configs_are_accepted(path):
    parse_args(["--config", str(path)])


def test_all_frames_are_denoised_unless_told_otherwise():
    assert parse_args(["--num_frames", "7"]).frames_per_clip == 7


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
    ],
    ids=str,
)
def test_a_config_file_that_cannot_work_is_refused_by_name(config, values, capsys):
    assert next(iter(values)) in refusal(config(**values), capsys)


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
