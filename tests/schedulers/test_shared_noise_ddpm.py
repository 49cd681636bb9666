"""
The frames of a clip share their noise, with our scheduler and with those of diffusers, and frames alone are DDPM's.
"""

import diffusers
import pytest
import torch
from diffusers import DDPMScheduler
from einops import rearrange
from tiny import random_clips, seeded

from divid_diffusers import SharedNoiseDDPMScheduler
from divid_diffusers.schedulers.scheduling_shared_noise_ddpm import frame_generators, sample_shared_noise


CONFIG = {"num_train_timesteps": 100, "clip_sample": False}
FOLD = "b n c h w -> (b n) c h w"


def shared_within_clips_only(clips):
    """Frames of a clip are equal, and no two clips are."""
    return torch.equal(clips, clips[:, :1].expand_as(clips)) and not torch.equal(clips[0], clips[1])


def still_clips():
    return random_clips(2, 1).expand(2, 3, -1, -1, -1)


def test_frames_without_a_clip_are_treated_exactly_as_by_ddpm():
    ours, theirs = SharedNoiseDDPMScheduler(**CONFIG), DDPMScheduler(**CONFIG)
    frames, output = random_clips()[0], random_clips(seed=1)[0]
    times = torch.tensor([3, 50, 99])
    assert torch.equal(ours.add_noise(frames, output, times), theirs.add_noise(frames, output, times))
    assert torch.equal(
        ours.step(output, 50, frames, seeded()).prev_sample, theirs.step(output, 50, frames, seeded()).prev_sample
    )


def test_noise_is_drawn_once_per_clip():
    scheduler, clips = SharedNoiseDDPMScheduler(**CONFIG), random_clips()
    noise = scheduler.sample_noise(clips, seeded())
    assert noise.shape == clips.shape
    assert shared_within_clips_only(noise)
    assert torch.equal(noise, scheduler.sample_noise(clips, seeded()))
    assert scheduler.sample_noise(clips.double(), seeded()).dtype == torch.float64
    assert not torch.equal(noise, scheduler.sample_noise(clips, seeded(1)))


def test_a_noised_clip_is_the_clip_and_one_noise_mixed_by_the_clips_own_time():
    scheduler, clips = SharedNoiseDDPMScheduler(**CONFIG), random_clips()
    times = torch.tensor([5, 80])
    noise = scheduler.sample_noise(clips, seeded())
    noisy = scheduler.add_noise(clips, noise, times)
    abar = scheduler.alphas_cumprod[times].view(2, 1, 1, 1, 1)
    torch.testing.assert_close(noisy, abar.sqrt() * clips + (1 - abar).sqrt() * noise)
    for same_noise in (noise[:, :1], noise[:, 0]):
        assert torch.equal(scheduler.add_noise(clips, same_noise, times), noisy)


def test_a_reverse_step_adds_one_noise_per_clip():
    scheduler = SharedNoiseDDPMScheduler(**CONFIG)
    sample, output = still_clips(), still_clips() / 2
    step = scheduler.step(output, 50, sample, seeded())
    assert step.prev_sample.shape == sample.shape
    assert shared_within_clips_only(step.prev_sample) and shared_within_clips_only(step.pred_original_sample)
    assert torch.equal(step.prev_sample, scheduler.step(output, 50, sample, seeded(), return_dict=False)[0])
    assert not torch.equal(step.prev_sample, scheduler.step(output, 50, sample, seeded(1)).prev_sample)


def test_without_a_generator_torchs_global_one_decides():
    scheduler, sample = SharedNoiseDDPMScheduler(**CONFIG), still_clips()

    def step(seed):
        torch.manual_seed(seed)
        return scheduler.step(sample / 2, 50, sample).prev_sample

    assert torch.equal(step(0), step(0)) and not torch.equal(step(0), step(1))
    assert shared_within_clips_only(step(0))


def test_one_generator_and_a_list_of_it_are_the_same_for_one_clip():
    scheduler, sample = SharedNoiseDDPMScheduler(**CONFIG), still_clips()[:1]
    assert torch.equal(scheduler.sample_noise(sample, seeded()), scheduler.sample_noise(sample, [seeded()]))
    steps = [scheduler.step(sample / 2, 50, sample, generator).prev_sample for generator in (seeded(), [seeded()])]
    assert torch.equal(*steps)


def test_a_clip_with_its_own_generator_does_not_depend_on_its_batch():
    scheduler, sample = SharedNoiseDDPMScheduler(**CONFIG), still_clips()
    generators = [seeded(3), seeded(4)]
    noise = scheduler.sample_noise(sample, generators)
    step = scheduler.step(sample / 2, 50, sample, generators).prev_sample
    alone = seeded(4)
    assert torch.equal(noise[1:], scheduler.sample_noise(sample[1:], alone))
    assert torch.equal(step[1:], scheduler.step(sample[1:] / 2, 50, sample[1:], alone).prev_sample)


@pytest.mark.parametrize("shape", [(2, 1, 3, 4, 4), (2, 5, 1, 4, 4)])
def test_shared_noise_is_standard_normal_noise_of_the_shape_asked_for(shape):
    noise = sample_shared_noise(shape, seeded())
    assert noise.shape == shape and noise.dtype == torch.float32
    assert abs(sample_shared_noise((1, 2, 3, 64, 64), seeded()).std() - 1) < 0.02
    assert sample_shared_noise(shape, seeded(), dtype=torch.bfloat16).dtype == torch.bfloat16


# --- stock schedulers ----------------------------------------------------------------------------------------------

STOCHASTIC = {
    "DDPMScheduler": ({}, {}),
    "DDIMScheduler": ({}, {"eta": 1.0}),
    "EulerAncestralDiscreteScheduler": ({}, {}),
    "KDPM2AncestralDiscreteScheduler": ({}, {}),
    "DPMSolverMultistepScheduler": ({"algorithm_type": "sde-dpmsolver++"}, {}),
    "LCMScheduler": ({}, {}),
}


@pytest.mark.parametrize("name", STOCHASTIC)
def test_generators_per_frame_share_the_noise_of_every_stochastic_scheduler(name):
    config, step_arguments = STOCHASTIC[name]

    def sample(seed, lengths):
        scheduler = getattr(diffusers, name)(**config)
        scheduler.set_timesteps(4)
        frames = torch.randn(1, 3, 4, 4, generator=seeded()).repeat(sum(lengths), 1, 1, 1)
        generators = frame_generators(seeded(seed), lengths)
        for t in scheduler.timesteps:
            output = 0.3 * scheduler.scale_model_input(frames, t)
            frames = scheduler.step(output, t, frames, generator=generators, **step_arguments).prev_sample
        return frames

    one, other = sample(0, [2, 3]).split([2, 3])
    assert torch.equal(one[0], one[1]) and torch.equal(other, other[:1].expand_as(other))
    assert not torch.equal(one[0], other[0])
    assert not torch.equal(one, sample(1, [2, 3])[:2])


def test_generators_of_frames_advance_the_callers_and_restart_with_it():
    generator = seeded()
    first, second = (frame_generators(generator, [2])[0].initial_seed() for _ in range(2))
    assert first != second
    assert frame_generators(seeded(), [2])[1].initial_seed() == first


def test_as_many_generators_as_clips_are_required():
    with pytest.raises(ValueError, match="Got 2 generators for 3 clips"):
        frame_generators([seeded(), seeded()], [1, 1, 1])


@pytest.mark.parametrize(
    "name",
    [
        "DDPMScheduler",
        "DDIMScheduler",
        "UniPCMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
    ],
)
def test_configurations_go_to_other_schedulers_and_back(name, diffusers_warnings):
    ours = SharedNoiseDDPMScheduler(
        num_train_timesteps=400, beta_end=0.03, beta_schedule="scaled_linear", prediction_type="v_prediction"
    )
    theirs = getattr(diffusers, name).from_config(ours.config)
    back = SharedNoiseDDPMScheduler.from_config(theirs.config)
    for scheduler in (theirs, back):
        assert scheduler.config.num_train_timesteps == 400
        assert scheduler.config.prediction_type == "v_prediction"
    assert torch.equal(back.alphas_cumprod, ours.alphas_cumprod)
    assert not any("not expected" in message for message in diffusers_warnings)


def test_it_is_saved_and_loaded_under_its_own_name(tmp_path, diffusers_warnings):
    scheduler = SharedNoiseDDPMScheduler(prediction_type="sample")
    scheduler.save_pretrained(tmp_path)
    loaded = SharedNoiseDDPMScheduler.from_pretrained(tmp_path)
    assert loaded.config.prediction_type == "sample"
    assert SharedNoiseDDPMScheduler().config.keys() == DDPMScheduler().config.keys()  # none of its own
    assert diffusers_warnings == []


def test_a_clip_is_denoised_frame_by_frame_as_by_ddpm_with_that_noise():
    """The last step adds no noise, so there both must agree without any generator."""
    ours, theirs = SharedNoiseDDPMScheduler(**CONFIG), DDPMScheduler(**CONFIG)
    clips, output = random_clips(), random_clips(seed=1)
    folded = theirs.step(rearrange(output, FOLD), 0, rearrange(clips, FOLD)).prev_sample
    assert torch.equal(rearrange(ours.step(output, 0, clips).prev_sample, FOLD), folded)
