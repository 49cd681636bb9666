"""Rendered people are prepared like any set: split three ways, gone on with after a stop, refused in a sentence."""

import json

import numpy as np
import people as script
import preparation
import pytest
from people import main, make_clips, make_plan, parse_args, split_clips

from divid_diffusers.data import people
from divid_diffusers.data.people import EXPRESSIONS, LEVELS, Person, of_clip_name
from divid_diffusers.data.prepared import load_clips


def arguments(*more):
    return parse_args(["--output_dir", "unused", "--num_people", "20", *more])


def drawn_simply(person, expression, level, seed, num_frames, size):
    """A stand-in for the renderer: a grey that tells the person, with a pixel that tells the motion."""
    grey = round(sum(person.skin) * 60)
    frames = np.full((num_frames, size, size, 3), grey, np.uint8)
    frames[:, 0, 0] = seed % 256
    return frames


@pytest.fixture
def simple(monkeypatch):
    """The script without Anny and OpenGL."""
    monkeypatch.setattr(people, "renderer", lambda size: None)
    monkeypatch.setattr(people, "render", drawn_simply)
    monkeypatch.setattr(script, "version", lambda name: "0.6.2")


def test_everybody_performs_as_many_expressions_and_nobody_another_s_motion():
    clips = make_clips(arguments("--clips_per_person", "5"))
    assert len(clips) == 100 and len({(c.labels["identity"], c.labels["action"]) for c in clips}) == 100
    seeds = [of_clip_name(clip.clip_id)[3] for clip in clips]
    assert len(set(seeds)) == 100
    assert {clip.labels["action"] for clip in clips} == set(EXPRESSIONS)
    assert {clip.labels["level"] for clip in clips} == set(LEVELS)
    for clip in clips:
        person, expression, level, _ = of_clip_name(clip.clip_id)
        assert clip.labels["identity"] == str(person) and clip.labels["action"] == expression
        assert clip.labels["level"] == level and clip.labels["hair"] == Person.sample(person).hair_style


@pytest.mark.parametrize("split, label", [("identities", "identity"), ("expressions", "action")])
def test_people_or_expressions_are_held_out_whole(split, label):
    args = arguments("--split", split)
    clips, rule = split_clips(make_clips(args), args)
    seen = {name: {clip.labels[label] for clip in clips if clip.split == name} for name in preparation.SPLITS}
    assert all(len(values) >= 2 for values in seen.values())
    assert not (
        seen["train"] & seen["test"] or seen["train"] & seen["validation"] or seen["test"] & seen["validation"]
    )
    assert rule.startswith(f"{len(seen['test'])} of") and f"{len(seen['validation'])} of the others" in rule


def test_of_cells_both_halves_are_seen_in_training():
    args = arguments()
    clips, _ = split_clips(make_clips(args), args)
    train = [clip for clip in clips if clip.split == "train"]
    for label in ("identity", "action"):
        assert {clip.labels[label] for clip in clips} == {clip.labels[label] for clip in train}
    cells = [(clip.labels["identity"], clip.labels["action"]) for clip in clips]
    assert len(set(cells)) == len(cells)
    assert sum(clip.split == "test" for clip in clips) == round(0.12 * len(clips))


def test_a_stopped_run_goes_on_and_a_whole_set_is_told_from_a_part(simple, tmp_path, monkeypatch, capsys):
    command = ["--output_dir", str(tmp_path / "set"), "--num_people", "6", "--size", "16", "--num_workers", "1"]
    made = []

    def stops(*args):
        made.append(args)
        if len(made) == 20:
            raise KeyboardInterrupt
        return drawn_simply(*args)

    monkeypatch.setattr(people, "render", stops)
    with pytest.raises(SystemExit, match="Stopped. What is done is kept"):
        main(command)
    assert not (tmp_path / "set").exists()
    main(command)
    assert len(made) == 20 + 72 - 16  # a portion of 16 was whole
    report = json.loads((tmp_path / "set" / "preparation.json").read_text())
    assert sum(report["clips"].values()) == 72 and not report["skipped"]
    clip = load_clips(str(tmp_path / "set"), "train")[0]
    assert clip["frames"].shape == (15, 3, 16, 16)
    assert clip["frames"][0, 0, 0, 0] == of_clip_name(clip["clip_id"])[3] % 256
    main(command)
    assert "is already prepared" in capsys.readouterr().out


def test_what_another_version_has_drawn_is_not_gone_on_with(simple, monkeypatch):
    first = make_plan(arguments()).fingerprint()
    monkeypatch.setattr(people, "DRAWING", people.DRAWING + 1)
    second = make_plan(arguments()).fingerprint()
    monkeypatch.setattr(script, "version", lambda name: "0.6.3")
    assert len({first, second, make_plan(arguments()).fingerprint()}) == 3


@pytest.mark.parametrize("error", [ImportError("Rendered people need anny."), OSError("OpenGL could not be started.")])
def test_what_is_missing_is_said_before_the_work(monkeypatch, tmp_path, error):
    def missing(size):
        raise error

    monkeypatch.setattr(people, "renderer", missing)
    with pytest.raises(SystemExit, match=str(error)):
        main(["--output_dir", str(tmp_path / "set")])
    assert not any(tmp_path.iterdir())


def test_a_clip_that_leaves_the_frame_is_named(simple, monkeypatch, tmp_path, capsys):
    def leaves(person, expression, level, seed, num_frames, size):
        if seed == 3:
            raise ValueError("The face leaves the frame: turn or nod the head less.")
        return drawn_simply(person, expression, level, seed, num_frames, size)

    monkeypatch.setattr(people, "render", leaves)
    main(["--output_dir", str(tmp_path / "set"), "--num_people", "4", "--size", "16", "--num_workers", "1"])
    told = capsys.readouterr().out
    assert "1 skipped" in told and "-3: The face leaves the frame" in told
