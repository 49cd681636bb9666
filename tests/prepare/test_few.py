"""A few clips of a prepared set, as somebody's own would be."""

import few
import numpy as np
import preparation
import pytest

from divid_diffusers.data.prepared import load_clips


NAMES = {"identity": ["ann", "bob"], "action": ["wave", "jog", "sit"]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Grey, three clips of every person and action in training, one in test; a clip's grey tells which it is."""
    folder = tmp_path_factory.mktemp("whole") / "set"
    cells = [(who, what) for who in NAMES["identity"] for what in NAMES["action"]]
    clips = [
        preparation.Clip(f"{who}-{what}-{number}", f"{number}.avi", "test" if number == 3 else "train", told)
        for who, what in cells
        for number in (3, 2, 1, 0)
        for told in [{"identity": who, "action": what}]
    ]
    plan = preparation.Plan(clips, grey, (16, 16, 1), NAMES, "the last trial")
    preparation.prepare(plan, folder)
    return folder


def grey(clip):
    value = 10 * NAMES["action"].index(clip.labels["action"]) + int(clip.clip_id[-1])
    return np.full((2, 16, 16, 1), value, np.uint8)


def test_the_first_clips_of_every_cell_are_kept_in_colour_with_their_classes(whole, tmp_path):
    options = ["--classes", "action=wave,sit", "--clips_per_cell", "2", "--num_workers", "1"]
    few.main(["--input", str(whole), "--output_dir", str(tmp_path / "few"), *options])
    train, test = (load_clips(str(tmp_path / "few"), split) for split in ("train", "test"))
    assert (len(train), len(test), train.labels) == (2 * 2 * 2, 2 * 2, NAMES)
    assert {item["clip_id"][-1] for item in train} == {"0", "1"}
    for item in (*train, *test):
        what, number = item["clip_id"].split("-")[1:]
        assert NAMES["action"][item["action"]] == what != "jog"
        assert (item["frames"] == 10 * item["action"] + int(number)).all() and item["frames"].shape == (2, 3, 16, 16)


def test_few_people_are_trained_on_and_all_are_tested(whole, tmp_path):
    options = ["--people", "1", "--num_workers", "1"]
    few.main(["--input", str(whole), "--output_dir", str(tmp_path / "few"), *options])
    train, test = (load_clips(str(tmp_path / "few"), split) for split in ("train", "test"))
    assert (len(train), len({item["identity"] for item in train})) == (3, 1)
    assert (len(test), {item["identity"] for item in test}) == (6, {0, 1})


@pytest.mark.parametrize("text", ["action=fly", "age=old"])
def test_a_class_that_is_not_there_is_a_sentence(whole, tmp_path, text):
    with pytest.raises(SystemExit, match=f"{text}: .* does not have that, but (wave, jog, sit|identity, action)"):
        few.main(["--input", str(whole), "--output_dir", str(tmp_path / "few"), "--classes", text])


def test_what_is_no_prepared_set_is_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match="--input: .* is not a prepared set"):
        few.main(["--input", str(tmp_path), "--output_dir", str(tmp_path / "few")])


def test_classes_without_a_label_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        few.main(["--input", str(tmp_path), "--output_dir", str(tmp_path / "few"), "--classes", "wave,jog"])
    assert "is no LABEL=CLASS,CLASS" in capsys.readouterr().err
