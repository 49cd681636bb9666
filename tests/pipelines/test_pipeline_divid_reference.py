"""Pipelines whose decoder sees the static frame: whose it is, wherever clips become clips."""

import pytest
import torch
from calls import close, pt
from diffusers import DDIMScheduler
from tiny import SIZE, random_clips, random_tokens, seeded, tiny_directions, tiny_pipeline, tiny_prior

from divid_diffusers import DiViDPipeline
from divid_diffusers.evaluation.protocol import PipelineDisentangler


@pytest.fixture
def pipe():
    """Which shows little but the static frame, where it sees one."""
    torch.manual_seed(0)
    pipe = tiny_pipeline(prediction_type="sample", reference_frame=True, static_dropout=0.1)
    torch.nn.init.normal_(pipe.unet.conv_in.weight, std=0.1)
    pipe.unet.conv_out.bias.data[-1] = 4  # of the mask
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing", clip_sample=False)
    return pipe


def distance(one, other):
    return (one - other).abs().mean()


def by(pipe, method, *args, **kwargs):
    return getattr(pipe, method)(*args, generator=seeded(), output_type="pt", **kwargs).frames


CLIPS = random_clips(2, 3)
SHOWN = CLIPS / 2 + 0.5


def test_tokens_bring_the_static_frame_and_a_decoder_that_does_not_look_gets_none(pipe):
    assert torch.equal(pipe.encode(CLIPS).reference, CLIPS[:, 0])
    assert torch.equal(pipe.encode(CLIPS, static_frame=-1).reference, CLIPS[:, -1])
    assert tiny_pipeline().encode(CLIPS).reference is None
    pipe.unet = None
    assert pipe.encode(CLIPS).reference is None


def test_a_swap_shows_the_frame_of_the_static_donor(pipe):
    swap = by(pipe, "swap", CLIPS[:1], CLIPS[1:])
    assert distance(swap, SHOWN[0, 0]) < 0.5 * distance(swap, SHOWN[1, 0])
    close(by(pipe, "swap", CLIPS[:1], CLIPS.flip(0))[:1], swap, 1e-5)
    both = by(pipe, "swap", CLIPS, CLIPS[1:])
    assert distance(both[1], SHOWN[1, 0]) < 0.5 * distance(both[1], SHOWN[0, 0])
    assert distance(by(pipe, "animate", CLIPS[0, :1], CLIPS[1]), swap) < 1e-5
    lengths = by(pipe, "swap", CLIPS[:1], [CLIPS[1], CLIPS[1, :2]])
    close(lengths[0], swap[0], 1e-5)


def test_without_it_tokens_alone_are_decoded(pipe):
    tokens = pipe.encode(CLIPS)
    alone = pt(pipe, tokens.static, tokens.dynamic)
    close(by(pipe, "reconstruct", CLIPS, reference=None), alone, 1e-6)
    assert distance(by(pipe, "reconstruct", CLIPS), alone) > 0.01
    close(by(pipe, "reconstruct", CLIPS), pt(pipe, tokens.static, tokens.dynamic, reference=tokens.reference), 1e-6)


def test_every_method_can_be_told_to_do_without_it(pipe):
    pipe.register_modules(directions=tiny_directions(pipe.encoder), prior=tiny_prior(pipe.encoder))
    blind = by(pipe, "reconstruct", CLIPS[:1], reference=None)
    close(by(pipe, "edit", CLIPS[:1], {}, reference=None), blind, 1e-5)
    close(by(pipe, "interpolate", *CLIPS, factor="dynamic", num_clips=2, reference=None)[:1], blind, 1e-5)
    seen, unseen = (by(pipe, "generate", static=CLIPS[0], **given) for given in ({}, {"reference": None}))
    assert distance(seen, unseen) > 0.01


def test_the_number_of_frames_at_once_changes_nothing(pipe):
    one, other = (by(pipe, "reconstruct", CLIPS, frames_per_batch=number) for number in (1, 64))
    close(one, other, 1e-5)


def test_guidance_that_drops_s_hides_the_frame_as_well(pipe):
    tokens = pipe.encode(CLIPS)
    context = [pipe.unet.context(tokens.static, tokens.dynamic, torch.full((2,), drop)) for drop in (False, True)]
    noise = torch.randn(2, 1, 3, SIZE, SIZE, generator=seeded())
    frames, reference = noise.expand(-1, 3, -1, -1, -1).flatten(0, 1), tokens.reference.repeat_interleave(3, dim=0)
    with torch.no_grad():
        seen = pipe.unet(frames, 999, context[0], reference=reference).sample
        dropped = pipe.unet(frames, 999, context[1]).sample
    options = {"latents": noise, "num_inference_steps": 1, "output_type": "latent", "static_guidance_scale": 3.0}
    guided = pipe(tokens.static, tokens.dynamic, reference=tokens.reference, **options).frames
    close(guided.flatten(0, 1), dropped + 3 * (seen - dropped), 1e-4)


def test_between_people_and_along_directions_of_s_there_is_no_frame_to_look_at(pipe):
    between = by(pipe, "interpolate", CLIPS[0], CLIPS[1], num_clips=2)
    close(between[:1], by(pipe, "reconstruct", CLIPS[:1], reference=None), 1e-5)
    moving = by(pipe, "interpolate", CLIPS[0], CLIPS[1], factor="dynamic", num_clips=2)
    close(moving[:1], by(pipe, "reconstruct", CLIPS[:1]), 1e-5)
    assert distance(moving[1], SHOWN[0, 0]) < 0.5 * distance(moving[1], SHOWN[1, 0])
    pipe.register_modules(directions=tiny_directions(pipe.encoder))
    edited = by(pipe, "edit", CLIPS[:1], {"static 1": 2.0})
    assert distance(edited, SHOWN[0, 0]) > 2 * distance(by(pipe, "edit", CLIPS[:1], {"dynamic 1": 2.0}), SHOWN[0, 0])


def test_somebody_who_is_given_is_seen_and_somebody_made_up_is_not(pipe):
    pipe.register_modules(prior=tiny_prior(pipe.encoder))
    assert pipe.sample_tokens(2, generator=seeded()).reference is None
    assert pipe.sample_tokens(dynamic=CLIPS[:1], generator=seeded()).reference is None
    assert torch.equal(pipe.sample_tokens(2, static=CLIPS[0], generator=seeded()).reference, CLIPS[[0, 0], 0])
    shown = pipe.generate(static=CLIPS[0], generator=seeded(), output_type="pt").frames
    assert distance(shown, SHOWN[0, 0]) < 0.5 * distance(shown, SHOWN[1, 0])


def test_evaluation_swaps_as_the_pipeline_does(pipe):
    model = PipelineDisentangler(pipe)
    clips = SHOWN
    static, dynamic = model.encode(clips)
    close(model.decode(static.flip(0), dynamic), by(pipe, "swap", CLIPS.flip(0), CLIPS), 1e-5)
    s, d = model.tokens(clips)
    assert torch.equal(static[:, : s.shape[1]], s) and torch.equal(d, dynamic)
    alone = PipelineDisentangler(pipe, reference=False)
    assert torch.equal(alone.encode(clips)[0], s)
    close(alone.decode(s, d), by(pipe, "reconstruct", CLIPS, reference=None), 1e-5)
    close(model.decode(s, d), alone.decode(s, d), 1e-6)


def test_it_survives_saving(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DiViDPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    close(by(loaded, "reconstruct", CLIPS), by(pipe, "reconstruct", CLIPS), 1e-6)


def test_inversion_looks_at_the_frame_as_well(pipe):
    seen = []
    pipe.unet.register_forward_pre_hook(lambda _, args, given: seen.append(given["reference"]), with_kwargs=True)
    pipe.invert(CLIPS, num_inference_steps=2)
    assert len(seen) == 2 and torch.equal(seen[0], CLIPS[:, 0].repeat_interleave(3, dim=0))


@pytest.mark.parametrize(
    "reference, message",
    [
        (CLIPS[:1, 0], r"one static frame per clip, \(2, 3, 16, 16\), but is \(1, 3, 16, 16\)"),
        (CLIPS, r"one static frame per clip"),
        (torch.full((2, 3, SIZE, SIZE), float("nan")), "`reference` contains NaN"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(pipe, reference, message):
    with pytest.raises(ValueError, match=message):
        pipe(*random_tokens(), reference=reference)


def test_a_decoder_that_does_not_look_is_shown_none():
    with pytest.raises(ValueError, match="this checkpoint's decoder looks at no static frame: leave it out"):
        tiny_pipeline()(*random_tokens(), reference=CLIPS[:, 0])
