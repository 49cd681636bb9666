"""What decoders do to clips, in known strengths."""

import pytest
import torch
from degrade import blurred, moved, noisy
from tiny import seeded


def test_each_clip_is_blurred_by_its_own_gaussian_and_none_of_zero():
    clips = torch.zeros(3, 2, 1, 21, 21)
    clips[..., 10, 10] = 1
    spread = blurred(clips, torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(spread[0], clips[0])
    places = (torch.arange(21) - 10.0).square()
    for clip, variance in ((spread[1], 1.0), (spread[2], 4.0)):
        torch.testing.assert_close(clip.sum(dim=(-2, -1)), torch.ones(2, 1))
        across = clip[0, 0].sum(dim=0)
        assert (across * places).sum().item() == pytest.approx(variance, rel=0.05)


def test_a_blur_leaves_an_even_clip_as_it_is_up_to_its_border():
    clips = torch.full((2, 2, 3, 8, 8), 0.7)
    torch.testing.assert_close(blurred(clips, torch.tensor([0.5, 3.0])), clips)


def test_noise_is_of_the_strength_asked_for_and_stays_in_range():
    clips = torch.full((2, 4, 1, 32, 32), 0.5)
    changed = noisy(clips, torch.tensor([0.0, 0.05]), seeded())
    assert torch.equal(changed[0], clips[0]) and changed[1].std().item() == pytest.approx(0.05, rel=0.05)
    assert noisy(clips, torch.tensor([9.0, 9.0]), seeded()).aminmax() == (0, 1)


def test_a_moved_clip_is_the_clip_in_another_place_and_size():
    clips = torch.rand(2, 3, 1, 16, 16)
    at = torch.tensor([[3.0, -2.0], [0.0, 0.0]])
    same = torch.ones(2, 2)
    seen = moved(clips, at, same)
    torch.testing.assert_close(seen[0, ..., 2:, :-3], clips[0, ..., :-2, 3:], rtol=0, atol=1e-5)
    torch.testing.assert_close(seen[1], clips[1], rtol=0, atol=1e-5)
    ramp = torch.arange(16.0).expand(1, 1, 1, 16, 16)
    wider = moved(ramp, torch.zeros(1, 2), torch.tensor([[0.5, 1.0]]))  # half as much is seen, as large again
    torch.testing.assert_close(wider[0, 0, 0, 0], 7.5 + (torch.arange(16) - 7.5) / 2, rtol=0, atol=1e-4)
