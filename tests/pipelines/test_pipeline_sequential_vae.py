"""The baselines' pipeline takes and gives what DiViD's does, and comes back from disk as it was saved."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SIZE, influence, random_clips, same_weights, seeded
from tiny_baselines import DYNAMIC, METHODS, STATIC, tiny_baseline

from divid_diffusers import DiViDPipelineOutput, SequentialVAEPipeline
from divid_diffusers.evaluation.protocol import PipelineDisentangler


A, B = random_clips(1, 4, seed=10), random_clips(1, 3, seed=11)


@pytest.fixture(params=METHODS)
def pipe(request):
    return SequentialVAEPipeline(tiny_baseline(request.param))


def pt(call, *args, **kwargs):
    return call(*args, output_type="pt", **kwargs).frames


def test_without_a_model_it_can_do_nothing():
    with pytest.raises(ValueError, match="has no model and can do nothing: load it without `model=None`"):
        SequentialVAEPipeline(None)


def test_a_clip_is_encoded_to_the_means_of_the_model(pipe):
    tokens, expected = pipe.encode(A), pipe.model.encode(A)
    torch.testing.assert_close(tokens.static, expected.static)
    torch.testing.assert_close(tokens.dynamic, expected.dynamic)


def test_reconstructing_is_decoding_what_was_encoded(pipe):
    torch.testing.assert_close(pt(pipe.reconstruct, A), (pipe.model(A) / 2 + 0.5).clamp(0, 1))


def test_a_swap_has_the_static_code_of_one_and_the_motion_of_the_other(pipe):
    swapped = pt(pipe.swap, A, B)
    static, dynamic = pipe.encode(A).static, pipe.encode(B).dynamic
    assert swapped.shape == (1, 3, 3, SIZE, SIZE)
    torch.testing.assert_close(swapped, pt(pipe, static, dynamic), rtol=0, atol=1e-5)
    assert (swapped - pt(pipe.reconstruct, B)).abs().max() > 1e-3


@pytest.mark.parametrize(("statics", "dynamics"), [(3, 1), (1, 3), (3, 3)])
def test_one_clip_of_either_goes_with_all_of_the_other(pipe, statics, dynamics):
    swapped = pt(pipe.swap, random_clips(statics, 4, seed=1), random_clips(dynamics, 2, seed=2))
    assert swapped.shape == (3, 2, 3, SIZE, SIZE)
    alone = pt(pipe.swap, random_clips(statics, 4, seed=1)[-1:], random_clips(dynamics, 2, seed=2)[-1:])
    torch.testing.assert_close(swapped[-1:], alone, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="Got 2 static and 3 dynamic clips"):
        pipe.swap(random_clips(2), random_clips(3))


def test_clips_of_different_lengths_stay_apart(pipe):
    tokens = pipe.encode([A[0], B[0]])
    assert tokens.static.shape == (2, STATIC)
    assert [tuple(clip.shape) for clip in tokens.dynamic] == [(4, DYNAMIC), (3, DYNAMIC)]
    frames = pt(pipe.reconstruct, [A[0], B[0]])
    for one, alone in zip(frames, (A, B)):
        torch.testing.assert_close(one, pt(pipe.reconstruct, alone)[0], rtol=0, atol=1e-5)


def test_frames_come_in_every_type_and_decoding_needs_no_generator(pipe):
    frames = pt(pipe.reconstruct, A)
    assert torch.equal(frames, pt(pipe.reconstruct, A, generator=seeded(5)))
    array = pipe.reconstruct(A, output_type="np").frames
    np.testing.assert_array_equal(array, frames.permute(0, 1, 3, 4, 2).numpy())
    images = pipe.reconstruct(A)
    assert isinstance(images, DiViDPipelineOutput)
    assert isinstance(images.frames[0][0], Image.Image) and images.frames[0][0].size == (SIZE, SIZE)
    assert torch.equal(pipe.reconstruct(A, output_type="pt", return_dict=False)[0], frames)


def test_decoding_in_pieces_changes_nothing(pipe):
    torch.testing.assert_close(pt(pipe.reconstruct, A, frames_per_batch=3), pt(pipe.reconstruct, A))


def test_images_and_files_are_clips_too(pipe, tmp_path):
    images = pipe.reconstruct(A).frames[0]
    images[0].save(tmp_path / "clip.gif", save_all=True, append_images=images[1:])
    assert len(pipe.reconstruct(tmp_path / "clip.gif").frames[0]) == 4
    assert pt(pipe.swap, images, B).shape == (1, 3, 3, SIZE, SIZE)


def test_tokens_are_differentiable_in_the_clip(pipe):
    clips = A.clone().requires_grad_()
    assert influence(pipe.encode(clips).dynamic, clips).any()


BAD = {
    "too few": (torch.zeros(1, STATIC), torch.zeros(2, 3, DYNAMIC), "one token per clip"),
    "NaN": (torch.full((1, STATIC), torch.nan), torch.zeros(1, 3, DYNAMIC), "NaN"),
    "wide static": (torch.zeros(1, STATIC + 1), torch.zeros(1, 3, DYNAMIC), "this model's are 6 and 5"),
    "wide dynamic": (torch.zeros(1, STATIC), torch.zeros(1, 3, DYNAMIC + 1), "this model's are 6 and 5"),
    "no frame": (torch.zeros(1, STATIC), torch.zeros(1, 0, DYNAMIC), "at least one frame"),
}


@pytest.mark.parametrize("case", BAD)
def test_tokens_that_do_not_fit_are_refused_in_a_sentence(pipe, case):
    static, dynamic, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        pipe(static, dynamic)


def test_what_cannot_be_done_is_refused_in_a_sentence(pipe):
    with pytest.raises(ValueError, match="`output_type` is 'gif'"):
        pipe.reconstruct(A, output_type="gif")
    with pytest.raises(ValueError, match="`frames_per_batch` is 0"):
        pipe.reconstruct(A, frames_per_batch=0)


def test_latent_output_is_what_the_decoder_gave(pipe):
    latents = pipe.reconstruct(A, output_type="latent").frames
    torch.testing.assert_close(latents, pipe.model(A), rtol=0, atol=1e-5)
    assert latents.min() < 0


def test_a_saved_pipeline_comes_back_as_it_was_and_silently(pipe, tmp_path, diffusers_warnings):
    pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["model"] == [
        "divid_diffusers",
        type(pipe.model).__name__,
    ]
    loaded = SequentialVAEPipeline.from_pretrained(tmp_path)
    assert type(loaded.model) is type(pipe.model) and same_weights(loaded.model, pipe.model)
    # Not to the bit: tensors lie elsewhere in memory, and the kernels add in another order.
    torch.testing.assert_close(pt(loaded.reconstruct, A), pt(pipe.reconstruct, A), rtol=0, atol=1e-5)
    assert diffusers_warnings == []


def test_weights_are_loaded_in_the_precision_asked_for(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = SequentialVAEPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.model.dtype == torch.bfloat16
    assert pt(loaded.reconstruct, A).dtype == torch.float32


def test_evaluation_scores_it_like_any_other_method(pipe):
    method, clips = PipelineDisentangler(pipe), random_clips(3) / 2 + 0.5
    static, dynamic = method.encode(clips)
    decoded = method.decode(static, dynamic)
    assert decoded.shape == clips.shape and 0 <= decoded.min() and decoded.max() <= 1
    assert torch.equal(decoded, method.decode(static, dynamic))
