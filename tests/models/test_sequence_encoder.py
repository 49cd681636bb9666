"""What the static token sees and what the dynamic tokens see."""

import pytest
import torch
from tiny import WIDTH, influence, random_clips, tiny_encoder

from divid_diffusers import PRESETS, DiViDSequenceEncoder


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_a_clip_of_any_length_becomes_one_static_token_and_one_dynamic_token_per_frame(frames, channels):
    tokens = tiny_encoder(in_channels=channels)(random_clips(2, frames, channels))
    assert tokens.static.shape == (2, WIDTH)
    assert tokens.dynamic.shape == (2, frames, WIDTH)
    assert tokens.static.isfinite().all() and tokens.dynamic.isfinite().all()


@pytest.mark.parametrize("patch_size", [2, 4])
def test_pixels_can_be_folded_into_channels(patch_size):
    assert tiny_encoder(patch_size=patch_size)(random_clips()).dynamic.shape == (2, 3, WIDTH)


def test_the_tuple_holds_what_the_output_class_holds():
    encoder, clips = tiny_encoder(), random_clips()
    static, dynamic = encoder(clips, return_dict=False)
    tokens = encoder(clips)
    assert torch.equal(static, tokens.static) and torch.equal(dynamic, tokens.dynamic)


def test_clips_of_a_batch_do_not_meet():
    clips = random_clips().requires_grad_()
    tokens = tiny_encoder()(clips)
    for token in (tokens.static[0], tokens.dynamic[0]):
        moved = influence(token, clips)
        assert moved[0].any() and not moved[1].any()


@pytest.mark.parametrize(("static_frame", "position"), [(0, 0), (2, 2), (-1, 3), (-4, 0)])
def test_the_static_token_sees_the_static_frame_and_no_other(static_frame, position):
    clips = random_clips(1, 4).requires_grad_()
    seen = influence(tiny_encoder()(clips, static_frame).static, clips)[0].flatten(1).any(dim=1)
    assert seen.tolist() == [frame == position for frame in range(4)]


@pytest.mark.parametrize("copied", [False, True])
def test_a_static_token_of_all_frames_sees_them_all_and_not_the_copy_that_motion_is_read_from(copied):
    encoder, clips = tiny_encoder(static_source="all"), random_clips(1, 4).requires_grad_()
    copy = random_clips(1, 3, seed=1).requires_grad_() if copied else None
    tokens = encoder(clips, dynamic_frames=copy)
    assert influence(tokens.static, clips)[0].flatten(1).any(dim=1).all() and tokens.dynamic.shape[1] == 4 - copied
    assert not copied or not influence(tokens.static, copy).any()
    torch.testing.assert_close(tokens.static, encoder(clips.flip(1)).static)


def test_every_dynamic_token_sees_every_frame():
    clips = random_clips(1, 5).requires_grad_()
    dynamic = tiny_encoder()(clips).dynamic
    for frame in range(5):
        assert influence(dynamic[0, frame], clips)[0].flatten(1).any(dim=1).all()


def test_dynamic_tokens_know_the_order_of_the_frames():
    encoder, clips = tiny_encoder(), random_clips(1, 5)
    shuffled = clips[:, [0, 3, 1, 4, 2]]
    moved = encoder(clips).dynamic[:, [0, 3, 1, 4, 2]] - encoder(shuffled).dynamic
    assert moved.abs().max() > 1e-3


def test_motion_of_a_still_clip_does_not_tell_which_picture_it_shows():
    encoder = tiny_encoder()
    one, other = (random_clips(1, 1, seed=seed).expand(-1, 4, -1, -1, -1) for seed in (0, 1))
    assert (encoder(one).static - encoder(other).static).abs().max() > 1e-3
    torch.testing.assert_close(encoder(one).dynamic, encoder(other).dynamic, rtol=0, atol=1e-5)


def test_motion_is_relative_to_the_chosen_frame():
    encoder, clips = tiny_encoder(), random_clips(1, 4)
    embeddings = encoder.encode_frames(clips)
    shifted = encoder.encode_dynamic(embeddings + torch.randn(embeddings.shape[-1]), 2)
    torch.testing.assert_close(shifted, encoder(clips, 2).dynamic, rtol=1e-4, atol=1e-4)
    assert (encoder(clips, 0).dynamic - encoder(clips, 2).dynamic).abs().max() > 1e-3


@pytest.mark.parametrize("static_frame", [3, 4, -4, 1.5])
def test_a_static_frame_outside_the_clip_is_refused(static_frame):
    encoder, clips = tiny_encoder(), random_clips(1, 3)
    with pytest.raises(ValueError, match=f"`static_frame` is {static_frame}, but the clip has 3 frames"):
        encoder(clips, static_frame)
    with pytest.raises(ValueError, match=f"`static_frame` is {static_frame}, but the clip has 3 frames"):
        encoder.encode_dynamic(encoder.encode_frames(clips), static_frame)


@pytest.mark.parametrize("first_frame", ["context", "null"])
def test_frames_are_counted_from_the_end_by_every_method(first_frame):
    encoder, clips = tiny_encoder(first_frame=first_frame), random_clips(1, 3)
    last = encoder.encode_dynamic(encoder.encode_frames(clips), -1)
    assert torch.equal(last, encoder.encode_dynamic(encoder.encode_frames(clips), 2))
    assert torch.equal(last, encoder(clips, -1).dynamic)


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 0, 3, 16, 16), (2, 3, 1, 16, 16), (2, 3, 3, 16, 8)])
def test_frames_the_encoder_was_not_made_for_are_refused(shape):
    with pytest.raises(ValueError, match="The encoder takes frames of shape"):
        tiny_encoder()(torch.zeros(shape))


def test_a_null_first_token_depends_on_no_clip_and_is_learned():
    encoder, clips = tiny_encoder(first_frame="null"), random_clips(2, 4).requires_grad_()
    dynamic = encoder(clips, static_frame=1).dynamic
    assert torch.equal(dynamic[0, 1], dynamic[1, 1])
    assert not influence(dynamic[:, 1], clips).any()
    assert influence(dynamic[:, 1], encoder.first_token).any()
    assert influence(dynamic[:, 0], clips).any()


def test_motion_can_be_read_from_another_copy_of_the_clip():
    clips, recoloured = random_clips(1, 3).requires_grad_(), random_clips(1, 3, seed=1).requires_grad_()
    encoder = tiny_encoder()
    tokens = encoder(clips, dynamic_frames=recoloured)
    assert influence(tokens.static, clips).any() and not influence(tokens.static, recoloured).any()
    assert influence(tokens.dynamic, recoloured).any() and not influence(tokens.dynamic, clips).any()
    same = encoder(clips, dynamic_frames=clips)
    torch.testing.assert_close(same.static, encoder(clips).static)
    torch.testing.assert_close(same.dynamic, encoder(clips).dynamic)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sample_size": 15}, "`sample_size` \\(15\\) must be a multiple"),
        ({"static_source": "last"}, "`static_source` is 'last'; choose one of first, all"),
        ({"first_frame": "last"}, "`first_frame` is 'last'; choose one of context, null"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        tiny_encoder(**overrides)


def test_gradient_checkpointing_changes_no_gradient():
    clips = random_clips()

    def gradients(encoder):
        tokens = encoder.train()(clips)
        (tokens.static.square().sum() + tokens.dynamic.square().sum()).backward()
        return [parameter.grad.clone() for parameter in encoder.parameters()]

    plain, checkpointed = tiny_encoder(), tiny_encoder()
    checkpointed.load_state_dict(plain.state_dict())
    checkpointed.enable_gradient_checkpointing()
    assert checkpointed.is_gradient_checkpointing
    torch.testing.assert_close(gradients(checkpointed), gradients(plain))


def test_the_papers_encoder_has_the_papers_size():
    with torch.device("meta"):
        encoder = DiViDSequenceEncoder(**PRESETS["paper"]["encoder"])
    assert encoder.num_parameters() == pytest.approx(25.7e6, rel=0.01)


def test_dynamic_tokens_are_relative_to_the_static_frame_or_tell_the_pose_itself():
    torch.manual_seed(0)
    for residual in (True, False):
        encoder = tiny_encoder(residual=residual).eval()
        embeddings = encoder.encode_frames(random_clips())
        moved = embeddings + torch.randn_like(embeddings[:, :1])  # the same in all frames
        same = torch.allclose(encoder.encode_dynamic(embeddings), encoder.encode_dynamic(moved), atol=1e-5)
        assert same is residual
    with pytest.raises(ValueError, match="residual=False"):
        tiny_encoder(residual=False, first_frame="null")
