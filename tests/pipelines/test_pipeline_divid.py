"""What users do with clips: every operation, its shapes, with all of the pipeline or half of it."""

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from calls import close, distance, pt
from PIL import Image
from tiny import SIZE, WIDTH, influence, random_clips, random_tokens, seeded, tiny_pipeline

from divid_diffusers import DiViDPipeline, DiViDPipelineOutput


A, B = random_clips(1, 4, seed=10), random_clips(1, 3, seed=11)


OPERATIONS = {
    "call": (lambda pipe, **kw: pipe(*random_tokens(2, 3), **kw), 2, 3),
    "reconstruct": (lambda pipe, **kw: pipe.reconstruct(A, **kw), 1, 4),
    "swap": (lambda pipe, **kw: pipe.swap(A, B, **kw), 1, 3),
    "swap back": (lambda pipe, **kw: pipe.swap(B, A, **kw), 1, 4),
    "animate": (lambda pipe, **kw: pipe.animate(Image.new("RGB", (40, 30), "teal"), B, **kw), 1, 3),
    "static interpolation": (lambda pipe, **kw: pipe.interpolate(A, B, num_clips=3, **kw), 3, 4),
    "dynamic interpolation": (
        lambda pipe, **kw: pipe.interpolate(B, random_clips(1, 3), factor="dynamic", num_clips=2, **kw),
        2,
        3,
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_gives_clips_in_every_format(pipe, name):
    operation, batch, frames = OPERATIONS[name]
    pt_frames = operation(pipe, generator=seeded(), output_type="pt").frames
    assert pt_frames.shape == (batch, frames, 3, SIZE, SIZE)
    assert 0 <= pt_frames.min() and pt_frames.max() <= 1 and pt_frames.isfinite().all()

    np_frames = operation(pipe, generator=seeded(), output_type="np").frames
    assert isinstance(np_frames, np.ndarray)
    assert np.array_equal(np_frames, pt_frames.permute(0, 1, 3, 4, 2).numpy())

    output = operation(pipe, generator=seeded())
    assert isinstance(output, DiViDPipelineOutput)
    assert [len(clip) for clip in output.frames] == [frames] * batch
    pixels = np.stack([[np.asarray(image) for image in clip] for clip in output.frames])
    assert np.abs(pixels / 255 - np_frames).max() <= 0.51 / 255

    (as_tuple,) = operation(pipe, generator=seeded(), output_type="pt", return_dict=False)
    assert torch.equal(as_tuple, pt_frames)


def test_a_grey_model_takes_and_gives_grey_clips():
    pipe = tiny_pipeline(in_channels=1)
    assert pt(pipe.swap, A, B).shape == (1, 3, 1, SIZE, SIZE)
    images = pipe.reconstruct(random_clips(1, 2, 1)).frames[0]
    assert [image.mode for image in images] == ["L", "L"]


def test_clips_of_different_lengths_are_handled_together_as_they_are_alone(pipe):
    tokens = pipe.encode([A[0], B[0]])
    assert tokens.static.shape == (2, WIDTH) and [len(d) for d in tokens.dynamic] == [4, 3]
    close(tokens.dynamic[1], pipe.encode(B).dynamic[0], 1e-5)
    together = pt(pipe.reconstruct, [A[0], B[0]], generator=[seeded(1), seeded(2)])
    assert [clip.shape[0] for clip in together] == [4, 3]
    close(together[0], pt(pipe.reconstruct, A, generator=seeded(1))[0])
    close(together[1], pt(pipe.reconstruct, B, generator=seeded(2))[0])
    images = pipe.reconstruct([A[0], B[0]]).frames
    assert [len(clip) for clip in images] == [4, 3] and isinstance(images[0][0], Image.Image)


def test_one_static_clip_serves_many_motions_and_one_motion_many_people(pipe):
    people, motions = random_clips(2, 2), random_clips(2, 3, seed=1)
    swaps = [
        ((A, motions), [(A, motions[0, None]), (A, motions[1, None])]),
        ((people, B), [(people[0, None], B), (people[1, None], B)]),
        ((people, motions), [(people[0, None], motions[0, None]), (people[1, None], motions[1, None])]),
    ]
    for batch, alone in swaps:
        together = pt(pipe.swap, *batch, generator=[seeded(0), seeded(1)])
        assert together.shape == (2, 3, 3, SIZE, SIZE)
        for i, pair in enumerate(alone):
            close(together[i, None], pt(pipe.swap, *pair, generator=seeded(i)))


def test_a_swap_of_a_clip_with_itself_is_its_reconstruction(pipe):
    assert torch.equal(pt(pipe.swap, A, A), pt(pipe.reconstruct, A))


def test_a_swap_takes_the_static_token_of_one_and_the_dynamic_tokens_of_the_other(pipe):
    one, other = pipe.encode(A), pipe.encode(B)
    expected = pt(pipe, one.static, other.dynamic)
    close(pt(pipe.swap, A, B), expected)
    assert distance(expected, pt(pipe.reconstruct, B)) > 1e-3


def test_the_static_frame_can_be_chosen(pipe):
    close(pipe.encode(A, static_frame=2).static, pipe.encode(A[:, 2:3]).static, 1e-5)
    swapped = pt(pipe.swap, A, B, static_frame=-1)
    close(swapped, pt(pipe.swap, A[:, -1:], B), 1e-5)
    assert distance(swapped, pt(pipe.swap, A, B)) > 1e-3


def test_interpolation_ends_where_the_swaps_are(pipe):
    other = random_clips(1, 4, seed=12)

    def generators():
        return [seeded() for _ in range(3)]

    static = pt(pipe.interpolate, A, other, "static", 3, generator=generators())
    close(static[:1], pt(pipe.reconstruct, A))
    close(static[2:], pt(pipe.swap, other, A))
    dynamic = pt(pipe.interpolate, A, other, "dynamic", 3, generator=generators())
    close(dynamic[:1], pt(pipe.reconstruct, A))
    close(dynamic[2:], pt(pipe.swap, A, other))
    middle = [
        torch.lerp(one, end, 0.5)
        for one, end in zip(pipe.encode(A).to_tuple(), pipe.encode(other).to_tuple(), strict=True)
    ]
    close(static[1:2], pt(pipe, middle[0], pipe.encode(A).dynamic))
    close(dynamic[1:2], pt(pipe, pipe.encode(A).static, middle[1]))


def test_encoding_is_differentiable_with_respect_to_a_tensor(pipe):
    clip = A.clone().requires_grad_()
    tokens = pipe.encode(clip)
    assert influence(tokens.static, clip)[0, 0].any()
    assert influence(tokens.dynamic, clip)[0].flatten(1).any(dim=1).all()


def test_decoding_tracks_no_gradients(pipe):
    static, dynamic = (token.requires_grad_() for token in random_tokens())
    assert not pt(pipe, static, dynamic).requires_grad
    assert not pt(pipe.reconstruct, A.clone().requires_grad_()).requires_grad


def test_latent_output_is_what_the_sampler_left(pipe):
    latents = pt(pipe, *random_tokens(), output_type="latent")
    assert latents.shape == (2, 3, 3, SIZE, SIZE) and latents.min() < 0
    close((latents / 2 + 0.5).clamp(0, 1), pt(pipe, *random_tokens()), 1e-6)
    static, dynamic = random_tokens()
    uneven = pt(pipe, static, [dynamic[0], dynamic[1, :2]], output_type="latent")
    assert [len(clip) for clip in uneven] == [3, 2]


def test_stored_tokens_are_decoded_without_the_encoder_and_clips_encoded_without_the_unet(pipe):
    tokens = pipe.encode(A)
    decoder = DiViDPipeline(None, pipe.unet, pipe.scheduler, 3)
    assert torch.equal(pt(decoder, *tokens.to_tuple()), pt(pipe, *tokens.to_tuple()))
    for use in (decoder.encode, decoder.reconstruct, decoder.invert, lambda clip: decoder.swap(clip, clip)):
        with pytest.raises(
            ValueError, match="has no encoder and only decodes stored tokens: load it without `encoder=None`"
        ):
            use(A)
    with pytest.raises(ValueError, match="without encoder and without UNet can do nothing"):
        DiViDPipeline(None, None, pipe.scheduler)
    encoder = DiViDPipeline(pipe.encoder, None, pipe.scheduler)
    assert torch.equal(encoder.encode(A).dynamic, tokens.dynamic)
    for use in (lambda: encoder(*tokens.to_tuple()), lambda: encoder.invert(A), lambda: encoder.reconstruct(A)):
        with pytest.raises(ValueError, match="has no unet and only encodes clips: load it without `unet=None`"):
            use()
    with pytest.raises(ValueError, match="has no scheduler, and nothing can be decoded"):
        DiViDPipeline(pipe.encoder, pipe.unet, None)


def test_weights_offloaded_layer_by_layer_give_the_same_clip():
    # What enable_sequential_cpu_offload does, with the CPU as the accelerator: weights lie on "meta" between calls.
    pipe = tiny_pipeline()
    clip = torch.rand(1, 2, 3, SIZE, SIZE)
    before = pipe.reconstruct(clip, generator=torch.Generator().manual_seed(0), output_type="pt").frames
    cpu_offload(pipe.unet, execution_device=torch.device("cpu"))
    assert pipe.unet.null_static.device.type == "meta"
    after = pipe.reconstruct(clip, generator=torch.Generator().manual_seed(0), output_type="pt").frames
    assert torch.equal(before, after)
