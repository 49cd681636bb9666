"""A run that was given no length takes what its clips are worth and its machine has time for, and says so."""

from argparse import Namespace

import pytest
from trainer.length import PROBED, Length
from trainer.progress import Progress


def told(seconds_per_step, num_clips=600, **given):
    args = Namespace(train_batch_size=5, gradient_accumulation_steps=2, max_train_steps=None, max_train_minutes=None)
    vars(args).update(given)
    length, progress = Length(args, num_clips, processes=2), Progress()
    sentences = []
    for step in range(PROBED + 3):
        progress.advance(100.0 if step == 0 else seconds_per_step, 0.0, None)  # the first step is like no other
        sentences.append(length.after_step(progress))
    assert [bool(sentence) for sentence in sentences] == [step == PROBED - 1 for step in range(PROBED + 3)]
    return args.max_train_steps, sentences[PROBED - 1]


@pytest.mark.parametrize(
    ("num_clips", "seconds_per_step", "steps"),
    [
        (600, 0.1, 3_000),  # a hundred passes of twenty clips a step
        (10, 0.1, 2_000),
        (100_000, 0.1, 10_000),
        (100_000, 10.0, 720),  # two hours
        (600, 10_000.0, PROBED),  # which are over already
    ],
)
def test_a_length_is_proposed_and_taken(num_clips, seconds_per_step, steps):
    proposed, sentence = told(seconds_per_step, num_clips)
    assert proposed == steps and sentence.startswith(f"{steps:,} steps of ") and "can change" in sentence


def test_a_length_that_was_given_stays():
    assert told(2.0, max_train_steps=90) == (90, "90 steps of 2 s, about 3 min.")
    assert told(2.0, max_train_minutes=20.0) == (None, "About 600 steps of 2 s in 20 min.")
    assert told(2.0, max_train_minutes=20.0, max_train_steps=90) == (90, "90 steps of 2 s, about 3 min.")
    assert told(2.0, max_train_minutes=20.0, max_train_steps=9000)[1] == "About 600 steps of 2 s in 20 min."
