"""The draws of a step are a function of (seed, step), and the same however many processes share the work."""

from dataclasses import fields

import pytest
import torch
from trainer.arguments import parse_args

from divid_diffusers.training import step_noise


FLAGS = {
    "train_batch_size": 4,
    "num_frames": 5,
    "static_dropout": 0.3,
    "dynamic_dropout": 0.6,
    "static_bottleneck": 1e-4,
}
SWITCHES = ["--static_mirror", "--preset=paper"]


def draw(step=0, micro_batch=0, rank=0, world_size=1, **flags):
    args = parse_args([f"--{name}={value}" for name, value in (FLAGS | flags).items()] + SWITCHES)
    return step_noise.draw(
        args, step, micro_batch, rank, world_size, channels=3, size=8, static_dim=6, num_train_timesteps=1000
    )


def equal(one, other):
    return all(torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))


def test_a_step_can_be_drawn_again():
    assert equal(draw(7), draw(7))
    for other in (draw(8), draw(7, seed=1), draw(7, micro_batch=1, gradient_accumulation_steps=2)):
        assert not torch.equal(other.noise, draw(7).noise)


def test_no_two_micro_batches_share_their_draws():
    draws = [draw(step, micro, gradient_accumulation_steps=3).noise for step in range(3) for micro in range(3)]
    assert not any(torch.equal(one, other) for i, one in enumerate(draws) for other in draws[:i])


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_cut_the_draws_of_one_process_with_the_whole_batch(world_size):
    whole = draw(3, train_batch_size=8)
    parts = [draw(3, rank=r, world_size=world_size, train_batch_size=8 // world_size) for r in range(world_size)]
    for field in fields(whole):
        joined = torch.cat([getattr(part, field.name) for part in parts])
        assert torch.equal(joined, getattr(whole, field.name)), field.name


def test_there_is_one_time_and_one_noise_per_clip():
    noise = draw()
    assert noise.timesteps.shape == (4,) and noise.noise.shape == (4, 1, 3, 8, 8)
    assert len(set(noise.timesteps.tolist())) > 1


def test_without_shared_noise_every_frame_that_is_denoised_has_its_own():
    args = parse_args(
        [f"--{name}={value}" for name, value in FLAGS.items()] + ["--frames_per_clip=3", "--no-shared_noise"]
    )
    noise = step_noise.draw(args, 0, 0, 0, 1, 3, 8, 6, 1000).noise
    assert noise.shape == (4, 3, 3, 8, 8) and not torch.equal(noise[:, 0], noise[:, 1])


def test_times_cover_the_whole_range():
    times = torch.cat([draw(step, train_batch_size=500).timesteps for step in range(4)])
    assert times.min() >= 0 and times.max() <= 999
    counts = torch.histc(times.float(), bins=10, min=0, max=1000)
    assert counts.min() > 140 and counts.max() < 260  # 200 expected


def test_frames_to_denoise_are_different_frames_and_each_is_as_likely():
    frames = draw(train_batch_size=500, frames_per_clip=2).frames
    assert frames.shape == (500, 2) and (frames[:, 0] != frames[:, 1]).all()
    assert torch.bincount(frames.flatten(), minlength=5).min() > 150  # 200 expected
    assert torch.equal(draw().frames.sort(dim=1).values, torch.arange(5).expand(4, 5))


def test_tokens_are_dropped_as_often_as_asked_for_and_independently():
    noise = draw(train_batch_size=2000)
    static, dynamic = noise.drop_static.float(), noise.drop_dynamic.float()
    assert static.mean().item() == pytest.approx(0.3, abs=0.04)
    assert dynamic.mean().item() == pytest.approx(0.6, abs=0.04)
    assert (static * dynamic).mean().item() == pytest.approx(0.18, abs=0.04)
    nothing = draw(static_dropout=0, dynamic_dropout=0)
    assert not nothing.drop_static.any() and not nothing.drop_dynamic.any()
