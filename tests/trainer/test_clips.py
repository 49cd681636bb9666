"""Which clips are measured, and which are the same."""

import shutil
from types import SimpleNamespace

import numpy as np
import preparation
import pytest
import torch
from accelerate import PartialState
from split import hold_out_validation
from stand_in import figures_without_a_model, run
from trainer.card import dataset_name, is_local
from trainer.clips import fingerprint, open_clips
from trainer.flags import shown

from divid_diffusers.data.prepared import load_clips, load_training_clips
from divid_diffusers.data.sampling import draw_clips


SORTED = [
    {"index": index, "action": index % 9} for index in range(900)
]  # as in Sprites: every 9th clip is the same action


def test_drawn_clips_are_of_all_kinds_and_drawn_again_by_the_same_seed():
    drawn = draw_clips(SORTED, 100, seed=0)
    places = [clip["index"] for clip in drawn]
    assert len(set(places)) == 100 and places == sorted(places) and {clip["action"] for clip in drawn} == set(range(9))
    assert draw_clips(SORTED, 100, seed=0) == drawn != draw_clips(SORTED, 100, seed=1)


def test_all_clips_are_all_in_their_order():
    assert draw_clips(SORTED, 900, seed=3) == draw_clips(SORTED, 5000, seed=3) == SORTED


def prepared(folder, people=("ann", "bob"), brightness=9, splits="tnnnn"):
    """A clip for each letter of `splits`: of test, training or validation."""
    names = {"t": "test", "n": "train", "v": "validation"}
    clips = [
        preparation.Clip(f"c{i}", "drawn", names[letter], {"identity": people[i % 2]})
        for i, letter in enumerate(splits)
    ]
    labels = {"identity": sorted(people)}
    draw = Draw(brightness)
    preparation.prepare(preparation.Plan(clips, draw, (8, 8, 3), labels, "the first"), folder)
    return folder


class Draw:
    def __init__(self, brightness):
        self.brightness = brightness

    def __call__(self, clip):
        return np.full((3, 8, 8, 3), self.brightness, np.uint8)


@pytest.mark.parametrize("other", [{"people": ("ann", "cid")}, {"brightness": 10}])
def test_a_set_is_known_by_what_it_holds_and_not_by_where_it_lies(tmp_path, other):
    one = fingerprint(load_clips(str(prepared(tmp_path / "one")), "train"))
    shutil.move(tmp_path / "one", tmp_path / "moved")
    assert fingerprint(load_clips(str(tmp_path / "moved"), "train")) == one
    assert fingerprint(load_clips(str(prepared(tmp_path / "one", **other)), "train")) != one


def ids(clips):
    return clips.dataset.with_format(None)["clip_id"][:]


def test_a_set_that_says_what_to_validate_on_is_believed(tmp_path):
    train, validation, sentence = load_training_clips(str(prepared(tmp_path / "set", splits="tnvnvnnnnnnnnnt")))
    assert ids(validation) == ["c2", "c4"] and len(train) == 11 and sentence == ""


def test_a_set_from_before_holds_out_some_training_clips_the_same_every_time_and_none_of_test(tmp_path):
    old = str(prepared(tmp_path / "set", splits="t" * 6 + "n" * 30))
    train, validation, sentence = load_training_clips(old)
    assert len(ids(validation)) == 3 and sorted(ids(train) + ids(validation)) == sorted(ids(load_clips(old, "train")))
    assert sentence == f"{old} has no validation clips: 3 of 30 training clips take their place."
    assert ids(load_training_clips(old)[1]) == ids(validation)
    assert validation[0]["clip_id"] == ids(validation)[0] and validation[0]["frames"].shape == (3, 3, 8, 8)


def test_a_set_from_before_and_the_same_set_prepared_now_hold_out_the_same_clips(tmp_path):
    clips = [preparation.Clip(f"c{i}", "drawn", "train", {"identity": "ab"[i % 2]}) for i in range(40)]
    for name, each in (("old", clips), ("new", hold_out_validation(clips)[0])):
        plan = preparation.Plan(each, Draw(1), (8, 8, 3), {"identity": ["a", "b"]}, "all")
        preparation.prepare(plan, tmp_path / name)
    old, new = (load_training_clips(str(tmp_path / name))[1] for name in ("old", "new"))
    assert ids(old) == ids(new)


def test_a_few_clips_are_all_trained_on_and_shown(tmp_path):
    train, validation, sentence = load_training_clips(str(prepared(tmp_path / "set")))
    assert validation is train and len(train) == 4 and "of 4 training clips none can be spared" in sentence


@pytest.fixture
def logging():
    """Accelerate's logger wants a state."""
    PartialState()


@pytest.mark.usefixtures("logging")
def test_joined_sets_are_one_of_which_every_clip_is_seen(tmp_path):
    one, two = prepared(tmp_path / "one"), prepared(tmp_path / "two", brightness=10)
    args = SimpleNamespace(dataset=f"{one}+{two}")
    train, validation, shape = open_clips(args)
    assert len(train) == len(validation) == 8 and shape == (3, 8)
    assert {int(clip["frames"].max()) for clip in train} == {9, 10}
    parts = [fingerprint(load_clips(str(each), "train")) for each in (one, two)]
    assert fingerprint(train) == " + ".join(parts)
    assert dataset_name(args) == "one+two" and is_local(str(one)) and not is_local("org/clips")
    assert shown("dataset", args.dataset) == "one+two" and shown("dataset", f"puppets+{one}") == "puppets+one"


@pytest.mark.usefixtures("logging")
def test_a_folder_with_a_plus_in_its_name_is_one_set(tmp_path):
    args = SimpleNamespace(dataset=str(prepared(tmp_path / "a+b")))
    assert len(open_clips(args)[0]) == 4 and dataset_name(args) == "a+b" and shown("dataset", args.dataset) == "a+b"


@pytest.mark.usefixtures("logging")
def test_sets_of_other_frames_are_not_joined(tmp_path):
    args = SimpleNamespace(
        dataset=f"puppets+{prepared(tmp_path / 'one')}",
        num_frames=3,
        num_puppets=2,
        num_validation_clips=1,
        puppet_size=64,
    )
    with pytest.raises(SystemExit, match=r"joins sets whose frames differ .*puppets \(3, 64\), .*one \(3, 8\)"):
        open_clips(args)


def test_training_is_told_what_it_validates_on(tmp_path, monkeypatch, caplog):
    figures_without_a_model(monkeypatch)
    folder = prepared(tmp_path / "set", splits="t" * 6 + "n" * 30)
    seen = []
    monkeypatch.setattr(
        "trainer.loop.some_clips", lambda clips, args, count: seen.append(ids(clips)) or torch.zeros(1)
    )
    run(tmp_path / "run", dataset=folder)
    assert len(seen[0]) == 3 and not {f"c{i}" for i in range(6)} & set(seen[0])
    assert "3 of 30 training clips take their place" in caplog.text
