"""`generate` draws what is not given, decodes it, and refuses what its prior does not know."""

import pytest
import torch
from tiny import WIDTH, random_clips, random_tokens, seeded, tiny_encoder, tiny_pipeline, tiny_prior

from divid_diffusers import DiViDPipeline


A, B = random_clips(1, 4, seed=10), random_clips(1, 3, seed=11)
QUICK = {"prior_steps": 2}


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(1)  # made before a test's own seed: the draws that the last test left could be those of a test
    pipe = tiny_pipeline()
    pipe.register_modules(prior=tiny_prior(pipe.encoder))
    return pipe


def test_new_clips_are_the_drawn_tokens_decoded(pipe):
    clips = pipe.generate(2, 3, generator=seeded(1), output_type="pt", **QUICK).frames
    generator = seeded(1)
    tokens = pipe.sample_tokens(2, 3, generator=generator, **QUICK)
    again = pipe(tokens.static, tokens.dynamic, generator=generator, output_type="pt").frames
    assert clips.shape == (2, 3, 3, 16, 16) and torch.equal(clips, again)
    assert not torch.equal(clips[0], clips[1])


@torch.no_grad()
def test_this_person_and_that_motion_are_kept(pipe):
    a, b = pipe.encode(A), pipe.encode(B)
    person = pipe.sample_tokens(3, static=A, generator=seeded(), **QUICK)
    assert torch.equal(person.static, a.static.expand(3, -1)) and person.dynamic.shape == (3, 6, WIDTH)
    motion = pipe.sample_tokens(dynamic=B, generator=seeded(), **QUICK)
    assert torch.equal(motion.dynamic, b.dynamic) and motion.static.shape == (1, WIDTH)
    longer = pipe.sample_tokens(num_frames=5, static=A, dynamic=B, generator=seeded(), **QUICK)
    assert torch.equal(longer.static, a.static) and torch.equal(longer.dynamic[:, :3], b.dynamic)
    assert longer.dynamic.shape == (1, 5, WIDTH)


@torch.no_grad()
def test_tokens_do_as_well_as_clips(pipe):
    tokens = pipe.encode(A)
    of_clip = pipe.sample_tokens(2, static=A, generator=seeded(), **QUICK)
    of_tokens = pipe.sample_tokens(2, static=tokens.static, generator=seeded(), **QUICK)
    assert torch.equal(of_clip.dynamic, of_tokens.dynamic)
    both = [A[0], random_clips(1, 4, seed=12)[0]]
    assert pipe.sample_tokens(dynamic=pipe.encode(both).dynamic, **QUICK).static.shape == (2, WIDTH)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_frames": 7}, "this prior draws 1 to 6 frames"),
        ({"static": A, "dynamic": B}, "nothing to draw"),
        ({"num_clips": 0}, "`num_clips` is 0"),
        ({"num_clips": 3, "static": [A[0], B[0]]}, "`num_clips` is 3 with 2 given"),
        ({"dynamic": [A[0], B[0]]}, "different lengths"),
        ({"static": [A[0], B[0]], "dynamic": [A[0]] * 3}, "2 static and 3 dynamic"),
        ({"prior_steps": 0}, "`num_inference_steps` is 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(pipe, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        pipe.generate(**(QUICK | options))


def test_a_pipeline_without_a_prior_is_what_it_was_and_says_so(tmp_path):
    pipe = tiny_pipeline()
    with pytest.raises(ValueError, match="no prior, so nothing can be made up"):
        pipe.generate()
    pipe.save_pretrained(tmp_path)
    loaded = DiViDPipeline.from_pretrained(tmp_path)
    assert loaded.prior is None and not (tmp_path / "prior").exists()
    static, dynamic = random_tokens()
    frames = [each(static, dynamic, generator=seeded(), output_type="pt").frames for each in (pipe, loaded)]
    assert torch.equal(*frames)


def test_a_prior_travels_with_its_checkpoint_and_can_be_left_out(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DiViDPipeline.from_pretrained(tmp_path)
    drawn = [each.sample_tokens(2, generator=seeded(), **QUICK).dynamic for each in (pipe, loaded)]
    assert torch.equal(*drawn)
    assert DiViDPipeline.from_pretrained(tmp_path, prior=None).prior is None
    # stored tokens are enough where there is no encoder
    without = DiViDPipeline.from_pretrained(tmp_path, encoder=None)
    assert torch.equal(without.sample_tokens(2, generator=seeded(), **QUICK).dynamic, drawn[0])


def test_a_prior_of_another_checkpoint_is_refused(pipe):
    other = tiny_pipeline()
    other.register_modules(encoder=tiny_encoder(), prior=pipe.prior)
    with pytest.raises(ValueError, match="trained on the tokens of another encoder"):
        other.generate(**QUICK)
    other.register_modules(encoder=pipe.encoder)
    assert other.sample_tokens(**QUICK).static.shape == (1, WIDTH)
    with pytest.raises(ValueError, match="`static_dim` is 3, where this model has 16"):
        DiViDPipeline(pipe.encoder, pipe.unet, pipe.scheduler, prior=tiny_prior(pipe.encoder, static_dim=3))
