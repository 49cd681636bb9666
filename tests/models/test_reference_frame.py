"""A decoder that sees the static frame: what it reads of it, what it moves, and when it must not see it."""

import pytest
import torch
from tiny import SIZE, influence, random_clips, random_tokens, tiny_unet

from divid_diffusers.models.reference_frame import compose, with_reference_frame


OPTIONS = {"prediction_type": "sample", "reference_frame": True}


def trained(**options):
    """Whose weights for the static frame are not those of the start."""
    unet = tiny_unet(**OPTIONS | options)
    for weight in (unet.conv_in.weight, unet.conv_out.weight, unet.conv_out.bias):
        torch.nn.init.normal_(weight, std=0.1)
    return unet


def folded(drawn, flow, logit, patch):
    """The last convolution's output that says this: y and the mask's logit `(F, C, H, W)`, the flow `(2,)`."""
    side = drawn.shape[-1] // patch
    unshuffle = torch.nn.functional.pixel_unshuffle
    flow = torch.tensor(flow)[None, :, None, None].expand(len(drawn), 2, side, side)
    return torch.cat([unshuffle(drawn, patch), flow, unshuffle(logit, patch)], dim=1)


@pytest.mark.parametrize("patch", [1, 4])
def test_pixels_come_from_where_the_flow_says_as_far_as_the_mask_trusts_it(patch):
    drawn, reference = random_clips(1, 2)[0], random_clips(1, 2, seed=1)[0]
    trusted = torch.full((2, 1, SIZE, SIZE), -30.0)
    trusted[..., : SIZE // 2] = 30
    by = (3 * 2 / SIZE, -2 * 2 / SIZE)  # three pixels to the right of it, two above
    clip = compose(folded(drawn, by, trusted, patch), reference, torch.ones(2), patch)
    right = SIZE // 2
    torch.testing.assert_close(clip[..., 2:, :right], reference[..., :-2, 3 : right + 3], atol=1e-4, rtol=0)
    torch.testing.assert_close(clip[..., right:], drawn[..., right:], atol=1e-4, rtol=0)
    unseen = compose(folded(drawn, by, trusted, patch), reference, torch.zeros(2), patch)
    torch.testing.assert_close(unseen, drawn)


@pytest.mark.parametrize("options", [{}, {"patch_size": 4, "position_embedding": True, "shrink_input": True}])
def test_a_decoder_that_learns_to_look_starts_as_what_it_was_under_a_veil(options):
    unet = tiny_unet(prediction_type="sample", **options)
    wide = with_reference_frame(unet)
    assert wide.config.reference_frame and not unet.config.reference_frame
    clips, (static, dynamic), t = random_clips(), random_tokens(), torch.tensor([10, 900])
    before = unet(clips, t, static=static, dynamic=dynamic).sample
    torch.testing.assert_close(wide(clips, t, static=static, dynamic=dynamic).sample, before)
    seen = wide(clips, t, static=static, dynamic=dynamic, reference=clips[:, 0]).sample
    torch.testing.assert_close(seen, (before + clips[:, :1]) / 2)


def test_every_frame_sees_the_static_frame_of_its_own_clip_unless_it_is_hidden():
    unet, clips, (static, dynamic) = trained(), random_clips(), random_tokens()
    reference = random_clips(2, 1, seed=1)[:, 0].requires_grad_()

    def decode(**options):
        return unet(clips, 500, static=static, dynamic=dynamic, **options).sample

    out = decode(reference=reference)
    for frame in range(3):
        gradient = influence(out[1, frame], reference)
        assert gradient[0].abs().max() == 0 and gradient[1].abs().max() > 0
    hidden = decode(reference=reference, hide_reference=torch.tensor([True, False]))
    assert influence(hidden[0], reference).abs().max() == 0
    torch.testing.assert_close(hidden[1], out[1])
    torch.testing.assert_close(hidden[0], decode()[0])
    frames = unet(
        clips.flatten(0, 1), 500, unet.context(static, dynamic), reference=reference.repeat_interleave(3, 0)
    ).sample
    torch.testing.assert_close(frames.unflatten(0, (2, 3)), out)


def test_it_is_saved_and_loaded(tmp_path):
    unet = trained()
    unet.save_pretrained(tmp_path)
    loaded = type(unet).from_pretrained(tmp_path)
    clips, (static, dynamic) = random_clips(), random_tokens()
    given = {"static": static, "dynamic": dynamic, "reference": clips[:, 0]}
    assert torch.equal(loaded(clips, 5, **given).sample, unet(clips, 5, **given).sample)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="`reference_frame` moves pixels of a clean frame, .*'epsilon': choose"):
        tiny_unet(reference_frame=True)
    clips, (static, dynamic) = random_clips(), random_tokens()
    with pytest.raises(ValueError, match=r"one static frame for each .*\(2, 3, 16, 16\), but is \(2, 3, 3, 16, 16\)"):
        trained()(clips, 5, static=static, dynamic=dynamic, reference=clips)
    with pytest.raises(ValueError, match="looks at no static frame"):
        tiny_unet()(clips, 5, static=static, dynamic=dynamic, reference=clips[:, 0])
