"""A judge learns what can be seen, carries its accuracy, and does not learn what cannot be seen."""

import functools
import json
from types import SimpleNamespace

import numpy as np
import preparation
import pytest
import torch
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


def draw_stripes(clip: preparation.Clip) -> np.ndarray:
    """The dim wear fine stripes, which a blur takes away; what is left of the difference is 8 grey levels in 255."""
    dim = clip.labels["identity"] == "dim"
    frames = np.full((6, 16, 16, 1), 120 if dim else 128, np.uint8)
    if dim:
        frames[:, :, ::2] += 100
        frames[:, :, 1::2] -= 100
    return frames


def prepared(folder, draw):
    clips = [
        preparation.Clip(
            f"c{i}", "drawn", "test" if i % 4 == 3 else "train",
            {"identity": IDENTITIES[i // 4 % 2], "action": ACTIONS[i // 8 % 2], "coin": str(i * 7919 % 13 % 2)},
        )
        for i in range(64)
    ]  # fmt: skip
    labels = {"identity": IDENTITIES, "action": ACTIONS, "coin": ["0", "1"]}
    plan = preparation.Plan(clips, functools.partial(draw), (16, 16, 1), labels, "every fourth")
    preparation.prepare(plan, folder)
    return folder


@pytest.fixture
def dataset(tmp_path):
    return prepared(tmp_path / "bars", draw)


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


@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_what_can_be_seen_is_learned_and_measured_on_held_out_clips(dataset, tmp_path, capsys, kind):
    judge = run(dataset, tmp_path / "judge", "--max_train_steps=60", "--brightness=0.05", f"--kind={kind}")
    accuracy = judge.config.test_accuracy
    assert accuracy["identity"][0] == accuracy["action"][0] == accuracy["joint"][0] == 1 and accuracy["joint"][3] == 16
    assert accuracy["joint"][1] < 0.85, "sixteen clips are no proof"
    printed = capsys.readouterr().out
    assert "judge of bars, on 16 real held-out clips: identity 100.0 %" in printed
    assert "5 of 48 training clips take their place" in printed
    report = json.loads((tmp_path / "judge" / "training.json").read_text())
    for what, name in (("real", "test_accuracy"), ("blurred", "blurred_accuracy"), ("noisy", "noisy_accuracy")):
        assert report["test"][what] == judge.config[name] and judge.config[name]["joint"][3] == 16
        assert report["validation"][what]["joint"][3] == 5 and f"on 5 {what} validation clips: identity " in printed
    assert judge.config.kind == kind


def test_a_judge_trained_on_blur_does_not_lose_to_blur(tmp_path, monkeypatch):
    monkeypatch.setitem(train_judge.WIDTHS, "2d", {"block_out_channels": (8, 16)})
    dataset = prepared(tmp_path / "stripes", draw_stripes)
    # moved by part of a pixel, stripes would blur of themselves
    flags = ("--factors=identity", "--max_train_steps=60", "--brightness=0", "--zoom=0", "--shift=0", "--noise=0")
    plain = run(dataset, tmp_path / "plain", "--blur=0", *flags).config
    trained = run(dataset, tmp_path / "trained", "--blur=1.5", *flags).config
    assert plain.test_accuracy["identity"][0] == trained.test_accuracy["identity"][0] == 1
    assert plain.blurred_accuracy["identity"][0] < 0.7 < 0.9 < trained.blurred_accuracy["identity"][0]


def test_moved_factors_alone_are_asked_of_clips_that_are_moved_by_far(dataset, tmp_path, monkeypatch):
    real = train_judge.load_batch

    def false_of_moved_clips(*args):
        clips, labels = real(*args)
        labels["identity"] = torch.where(torch.arange(len(clips)) % 2 == 1, 1 - labels["identity"], labels["identity"])
        return clips, labels

    monkeypatch.setattr(train_judge, "load_batch", false_of_moved_clips)
    monkeypatch.setattr(train_judge, "SHIFT", 2)  # of 16 pixels
    flags = ("--max_train_steps=60", "--brightness=0.05", "--kind=3d")
    assert run(dataset, tmp_path / "moved", "--moved_factors=action", *flags).config.test_accuracy["joint"][0] == 1
    report = json.loads((tmp_path / "moved/training.json").read_text())["test"]
    assert report["moved"]["action"][0] == 1
    assert run(dataset, tmp_path / "plain", *flags).config.test_accuracy["identity"][0] < 0.9


def test_every_second_clip_is_moved_by_far_where_factors_ask_for_it():
    clips = torch.rand(4, 2, 1, 64, 64)
    nothing = dict.fromkeys(("shift", "zoom", "brightness", "blur", "noise"), 0)
    for factors, far in (([], []), (["action"], [1, 3])):
        args = SimpleNamespace(moved_factors=factors, **nothing)
        changed = (train_judge.augment(clips, args, np.random.default_rng(0)) - clips).abs().amax((1, 2, 3, 4)) > 0.1
        assert changed.nonzero()[:, 0].tolist() == far


def test_the_same_seed_gives_the_same_judge(dataset, tmp_path):
    one, two = (run(dataset, tmp_path / name, "--max_train_steps=3") for name in ("one", "two"))
    assert all((a == b).all() for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_judge_goes_on_from_another_of_the_same_factors(dataset, tmp_path):
    go_on = f"--pretrained_model_name_or_path={tmp_path / 'first'}"
    first = run(dataset, tmp_path / "first", "--max_train_steps=60", "--kind=3d", "--brightness=0.05").config
    on = run(dataset, tmp_path / "on", "--max_train_steps=1", go_on).config
    assert on.kind == "3d" and on.test_accuracy["joint"][0] == first.test_accuracy["joint"][0] == 1
    arguments = json.loads((tmp_path / "on/training.json").read_text())["arguments"]
    assert arguments["pretrained_model_name_or_path"] == "first"
    assert str(tmp_path) not in (tmp_path / "on/config.json").read_text()
    with pytest.raises(SystemExit, match="names action, identity of bars, not coin, action of"):
        run(dataset, tmp_path / "other", "--factors", "coin", "action", go_on)
    for flag in ("--kind=2d", "--num_frames=9"):
        with pytest.raises(SystemExit, match=f"{flag.replace('=', ' is ')}, and that of .*: leave it out"):
            run(dataset, tmp_path / "other", flag, go_on)


def test_unknown_factors_and_sets_are_refused(dataset, tmp_path):
    with pytest.raises(SystemExit, match="has no labels of hair, only of identity, action, coin"):
        run(dataset, tmp_path / "judge", "--factors", "hair")
    with pytest.raises(SystemExit, match="is not a prepared set"):
        run(tmp_path, tmp_path / "judge")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--moved_factors=hair"], "--moved_factors: hair is not among --factors identity action."),
        (["--moved_factors=action", "--train_batch_size=1"], "take a --train_batch_size of at least 2"),
    ],
)
def test_moved_factors_that_cannot_be_are_refused_before_anything_is_read(tmp_path, capsys, flags, sentence):
    with pytest.raises(SystemExit):
        run(tmp_path / "nowhere", tmp_path / "judge", *flags)
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "judge").exists()


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
