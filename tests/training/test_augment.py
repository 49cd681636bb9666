"""The augmentation changes looks, alike in all frames of a clip, and leaves the motion."""

import pytest
import torch
from tiny import random_clips

from divid_diffusers.training.augment import recolour, stretch


def square(left, top, side=4):
    """A clip `(1, 1, 1, 16, 16)` with a white square on black."""
    clip = torch.full((1, 1, 1, 16, 16), -1.0)
    clip[..., top : top + side, left : left + side] = 1
    return clip


def test_no_augmentation_changes_nothing():
    clips = random_clips()
    assert torch.equal(recolour(clips, torch.eye(3).expand(2, 3, 3), torch.zeros(2, 3)), clips)
    torch.testing.assert_close(stretch(clips, torch.ones(2, 2)), clips, rtol=0, atol=1e-5)


def test_colours_are_mixed_pixel_by_pixel_and_alike_in_all_frames():
    clips = random_clips() / 4
    swap_red_and_blue = torch.eye(3)[[2, 1, 0]].expand(2, 3, 3)
    shade = torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.0, -0.2]])
    torch.testing.assert_close(
        recolour(clips, swap_red_and_blue, shade), clips[:, :, [2, 1, 0]] + shade[:, None, :, None, None]
    )
    assert recolour(clips, 100 * swap_red_and_blue, shade).abs().max() == 1  # still a picture


@pytest.mark.parametrize(("factors", "width", "height"), [((2.0, 1.0), 8, 4), ((1.0, 2.0), 4, 8), ((0.5, 0.5), 2, 2)])
def test_a_clip_is_stretched_about_its_centre_first_across_then_down(factors, width, height):
    white = stretch(square(6, 6), torch.tensor([factors]))[0, 0, 0] > 0
    assert (white.any(dim=0).sum(), white.any(dim=1).sum()) == (width, height)
    assert torch.equal(white, white.flip(0)) and torch.equal(white, white.flip(1))


def test_every_clip_has_its_own_stretch_and_its_frames_share_it():
    clips = torch.cat([square(6, 6), square(6, 6)]).expand(-1, 3, -1, -1, -1)
    out = stretch(clips, torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    assert torch.equal(out, out[:, :1].expand_as(out)) and not torch.equal(out[0], out[1])


def test_a_shrunk_clip_continues_its_border():
    assert torch.equal(stretch(torch.ones(1, 2, 3, 16, 16), torch.tensor([[0.5, 0.5]])), torch.ones(1, 2, 3, 16, 16))
