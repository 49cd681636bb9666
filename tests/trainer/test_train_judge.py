"""A judge learns what can be seen, carries its accuracy, and does not learn what cannot be seen."""

import functools
import json

import numpy as np
import preparation
import pytest
import train_judge

from divid_diffusers.models.judge import ClipJudge


IDENTITIES, ACTIONS = ["dim", "bright"], ["left", "right"]


def draw(clip: preparation.Clip) -> np.ndarray:
    """A bar as bright as its identity, moving the way its action says."""
    frames = np.zeros((6, 16, 16, 1), np.uint8)
    for i in range(6):
        column = 2 + 2 * i if clip.labels["action"] == "right" else 12 - 2 * i
        frames[i, 4:12, column : column + 3] = 90 if clip.labels["identity"] == "dim" else 250
    return frames


@pytest.fixture
def dataset(tmp_path):
    clips = [
        preparation.Clip(
            f"c{i}", "drawn", "test" if i % 4 == 3 else "train",
            {"identity": IDENTITIES[i // 4 % 2], "action": ACTIONS[i // 8 % 2], "coin": str(i * 7919 % 13 % 2)},
        )
        for i in range(64)
    ]  # fmt: skip
    labels = {"identity": IDENTITIES, "action": ACTIONS, "coin": ["0", "1"]}
    plan = preparation.Plan(clips, functools.partial(draw), (16, 16, 1), labels, "every fourth")
    preparation.prepare(plan, tmp_path / "bars")
    return tmp_path / "bars"


def run(dataset, target, *flags):
    train_judge.main(
        [
            f"--dataset={dataset}",
            f"--output_dir={target}",
            "--num_frames=4",
            "--train_batch_size=8",
            "--shift=1",
            *flags,
        ]
    )
    return ClipJudge.from_pretrained(target)


def test_what_can_be_seen_is_learned_and_measured_on_held_out_clips(dataset, tmp_path, capsys):
    judge = run(dataset, tmp_path / "judge", "--max_train_steps=60", "--brightness=0.05")
    accuracy = judge.config.test_accuracy
    assert accuracy["identity"][0] == accuracy["action"][0] == accuracy["joint"][0] == 1 and accuracy["joint"][3] == 16
    assert accuracy["joint"][1] < 0.85, "sixteen clips are no proof"
    printed = capsys.readouterr().out
    assert "judge of bars, on 16 real held-out clips: identity 100.0 %" in printed
    report = json.loads((tmp_path / "judge" / "training.json").read_text())
    assert report["accuracy"]["joint"][3] == 16 and report["validation_accuracy"]["joint"][3] == 5
    assert (
        "5 of 48 training clips take their place" in printed and "on 5 validation clips: identity 100.0 %" in printed
    )


def test_the_same_seed_gives_the_same_judge(dataset, tmp_path):
    one, two = (run(dataset, tmp_path / name, "--max_train_steps=3") for name in ("one", "two"))
    assert all((a == b).all() for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_unknown_factors_and_sets_are_refused(dataset, tmp_path):
    with pytest.raises(SystemExit, match="has no labels of hair, only of identity, action, coin"):
        run(dataset, tmp_path / "judge", "--factors", "hair")
    with pytest.raises(SystemExit, match="is not a prepared set"):
        run(tmp_path, tmp_path / "judge")


def test_a_judge_that_is_not_finite_is_not_saved(dataset, tmp_path):
    with pytest.raises(SystemExit, match="is not finite, so no judge was saved: lower --learning_rate"):
        run(dataset, tmp_path / "judge", "--learning_rate=1e30", "--max_train_steps=3")
    assert not (tmp_path / "judge/config.json").exists()


@pytest.mark.parametrize("steps", [1, 2, 10, 11])
def test_any_number_of_steps_trains(dataset, tmp_path, steps):
    run(dataset, tmp_path / "judge", f"--max_train_steps={steps}")


def test_a_clip_without_a_label_is_named(dataset, tmp_path, monkeypatch):
    real = train_judge.load_training_clips

    def unlabelled(path):
        train, *others = real(path)
        train.dataset = train.dataset.with_format(None).map(
            lambda row, i: {"action": -1 if i == 2 else row["action"]}, with_indices=True
        )
        return train, *others

    monkeypatch.setattr(train_judge, "load_training_clips", unlabelled)
    with pytest.raises(
        SystemExit, match="1 of the 43 train clips .* have no action .the first, number 2, is labelled -1"
    ):
        run(dataset, tmp_path / "judge")


def test_another_judge_is_not_overwritten_and_a_file_is_no_folder(dataset, tmp_path):
    run(dataset, tmp_path / "judge", "--max_train_steps=1")
    with pytest.raises(SystemExit, match="holds a model already"):
        run(dataset, tmp_path / "judge", "--max_train_steps=1")
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="--output_dir .*file cannot be written to"):
        run(dataset, tmp_path / "file")


def test_what_is_saved_names_the_set_and_not_where_it_lies(dataset, tmp_path):
    run(dataset, tmp_path / "judge", "--max_train_steps=1")
    told = (tmp_path / "judge/training.json").read_text()
    assert str(tmp_path) not in told and json.loads(told)["arguments"]["dataset"] == "bars"
