"""The learning rate of a run follows how much of it is done, whatever its length is counted in."""

from argparse import Namespace

import pytest
import torch
from diffusers.optimization import get_scheduler
from trainer.progress import Progress
from trainer.schedule import SHAPES, rate_factor, share_done, warm_up_share


def args(**values):
    defaults = {"lr_scheduler": "cosine", "lr_warmup_steps": None, "max_train_steps": None, "max_train_minutes": None}
    return Namespace(**defaults | values)


def at(step=0, seconds=0.0):
    progress = Progress()
    progress.step, progress.seconds = step, seconds
    return progress


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("warm_up", [0, 3, 12])
def test_counted_in_steps_the_rates_are_those_of_diffusers(shape, warm_up):
    run = args(lr_scheduler=shape, lr_warmup_steps=warm_up, max_train_steps=12)
    theirs = get_scheduler(
        shape, torch.optim.SGD([torch.zeros(1)], lr=1.0), num_warmup_steps=warm_up, num_training_steps=12
    )
    for step in range(12):
        ours = rate_factor(shape, share_done(run, at(step)), warm_up_share(run))
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-9), step
        theirs.optimizer.step()
        theirs.step()


@pytest.mark.parametrize("minutes", [20, 600])
def test_counted_in_minutes_the_same_rates_come_in_whatever_time_there_is(minutes):
    run = args(max_train_minutes=minutes)
    rates = [
        rate_factor("cosine", share_done(run, at(7, 60 * minutes * share)), warm_up_share(run))
        for share in (0, 0.025, 0.05, 0.525, 1, 1.1)
    ]
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0, 0])


def test_of_steps_and_minutes_that_which_ends_first_is_the_length():
    run = args(max_train_minutes=10, max_train_steps=100)
    assert share_done(run, at(step=90, seconds=60)) == 0.9 and share_done(run, at(step=10, seconds=300)) == 0.5


@pytest.mark.parametrize(
    ("values", "share"),
    [
        ({"max_train_steps": 200, "lr_warmup_steps": 20}, 0.1),
        ({"max_train_steps": 200}, 0.05),
        ({"max_train_steps": 200, "max_train_minutes": 5.0, "lr_warmup_steps": 20}, 0.05),
        ({"max_train_minutes": 5.0, "lr_warmup_steps": 0}, 0),
        ({"max_train_minutes": 5.0, "lr_scheduler": "constant"}, 0),
    ],
)
def test_a_warm_up_in_steps_is_one_where_steps_alone_are_the_length(values, share):
    assert warm_up_share(args(**values)) == share


def test_processes_whose_clocks_differ_have_one_time():
    class Two:
        """An accelerator that has met another process, which took three seconds longer."""

        device = "cpu"

        def reduce(self, tensor, how):
            assert how == "mean"
            return (tensor + tensor + 3) / 2

    progress = at(1, 10.0)
    progress.advance(5.0, 4.0, Two())
    assert (progress.step, progress.seconds, progress.cpu_seconds) == (2, 16.5, 4.0)
    progress.advance(5.0, 4.0, None)
    assert (progress.step, progress.seconds) == (3, 21.5)
