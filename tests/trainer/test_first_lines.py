"""A run says what it does before it does it, and shows itself soon and then ever more rarely."""

import pytest
from stand_in import figures_without_a_model, run
from test_clips import prepared
from trainer.pictures import Pictures
from trainer.progress import Progress


def said(tmp_path, caplog, **flags):
    caplog.set_level("INFO")
    run(tmp_path / "run", **flags)
    return caplog.text


def test_clips_people_model_time_and_pictures_are_told(tmp_path, monkeypatch, caplog):
    figures_without_a_model(monkeypatch)
    folder = prepared(tmp_path / "set", splits="tt" + "n" * 20 + "vvv")
    text = said(
        tmp_path, caplog, dataset=folder, mixed_precision="no", validation_steps=5, gradient_accumulation_steps=3
    )
    assert "Learns from 20 clips of 2 people: people who are not among them are reproduced from" in text
    assert "Trains 0.00 M parameters on CPU in float32; 6 clips a step." in text
    assert "Takes 1 steps; how long these are is known after 5." in text
    assert f"Draws 2 validation clips into {tmp_path / 'run/validation'}, every 5 steps." in text
    assert text.index("Learns from") < text.index("Saved the pipeline")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({}, "Learns from 7 drawn clips, each of another person."),
        ({"dataset": "puppets+puppets-mid"}, "Learns from 7 drawn clips, each of another person. And from 7 drawn"),
        ({"max_train_minutes": 0.001, "max_train_steps": None}, "Takes 0.001 min."),
        ({"max_train_minutes": 3, "max_train_steps": 1}, "Takes 3 min, or 1 steps if these are over before."),
        ({"validation_steps": None}, "first after 60 s, then ever rarer."),
        ({}, "Draws no pictures on the way"),
        ({}, "Starts from random weights."),
    ],
)
def test_what_was_given_is_told_as_it_was_given(tmp_path, monkeypatch, caplog, flags, line):
    figures_without_a_model(monkeypatch)
    assert line in said(tmp_path, caplog, **flags)


def shown(validation_steps, seconds_per_step, num_steps, cost=1.0, start=0.0):
    """The seconds at which pictures are drawn."""
    progress = Progress()
    progress.seconds = start
    pictures, found = Pictures(validation_steps, progress), []
    for _ in range(num_steps):
        progress.advance(seconds_per_step, 0.0, None)
        if pictures.due(progress):
            found.append(round(progress.seconds))
            pictures.drawn(progress, cost)
            progress.seconds += cost
    return found


def test_the_first_picture_comes_soon_and_each_next_one_at_twice_the_time():
    found = shown(None, 0.5, 14_400)  # two hours
    assert found[0] == 60 and len(found) == 7
    assert all(2 * one <= next <= 2 * one + 2 for one, next in zip(found, found[1:]))


def test_pictures_that_take_long_take_a_tenth_of_the_time_at_most():
    found = shown(None, 10.0, 2_000, cost=100.0)
    assert all(next - one >= 1000 for one, next in zip(found, found[1:])) and len(found) > 3


def test_a_run_that_goes_on_draws_where_it_would_have():
    assert shown(None, 10.0, 200, start=500.0)[0] == 960


def test_steps_that_were_given_are_kept_and_none_is_none():
    assert shown(3, 1.0, 10, cost=0.0) == [3, 6, 9] and shown(0, 100.0, 10) == []
