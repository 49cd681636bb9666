"""Which noise a clip starts from and is given on the way, with every scheduler."""

import diffusers
import pytest
import torch
from calls import close, distance, pt
from tiny import SIZE, random_tokens, seeded, tiny_encoder, tiny_pipeline, tiny_unet

from divid_diffusers import DiViDPipeline, SharedNoiseDDPMScheduler
from divid_diffusers.schedulers import SCHEDULERS as NAMED_SCHEDULERS


# Name of the scheduler, configuration, arguments of the call.
SCHEDULERS = {
    "shared noise": ("divid", {}, {}),
    "DDPM": ("DDPMScheduler", {}, {}),
    "DDIM": ("DDIMScheduler", {"timestep_spacing": "trailing"}, {}),
    "DDIM eta=1": ("DDIMScheduler", {}, {"eta": 1.0}),
    "Euler": ("EulerDiscreteScheduler", {}, {}),
    "Euler ancestral": ("EulerAncestralDiscreteScheduler", {}, {}),
    "DPM-Solver++ SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, {}),
    "UniPC": ("UniPCMultistepScheduler", {}, {}),
    "KDPM2 ancestral": ("KDPM2AncestralDiscreteScheduler", {}, {}),
}


@pytest.fixture(params=SCHEDULERS)
def any_scheduler(request):
    """A pipeline with each scheduler, and the arguments its call needs."""
    name, config, arguments = SCHEDULERS[request.param]
    kind = SharedNoiseDDPMScheduler if name == "divid" else getattr(diffusers, name)
    base = SharedNoiseDDPMScheduler().config
    return tiny_pipeline(kind.from_config(base, **config), num_inference_steps=4), arguments


def test_the_same_generator_gives_the_same_clip_and_another_another(any_scheduler):
    pipe, arguments = any_scheduler
    tokens = random_tokens(1)
    one = pt(pipe, *tokens, **arguments)
    assert torch.equal(one, pt(pipe, *tokens, **arguments))
    assert torch.equal(one, pt(pipe, *tokens, generator=[seeded()], **arguments))
    assert distance(one, pt(pipe, *tokens, generator=seeded(1), **arguments)) > 1e-3


def test_without_a_generator_torchs_seed_decides(pipe):
    def sample(seed):
        torch.manual_seed(seed)
        return pt(pipe, *random_tokens(1), generator=None)

    assert torch.equal(sample(0), sample(0)) and not torch.equal(sample(0), sample(1))


def test_the_noise_is_shared_by_the_frames_of_a_clip(any_scheduler):
    """Frames with equal tokens can differ by their noise only."""
    pipe, arguments = any_scheduler
    static, dynamic = random_tokens(2, 1)
    clips = pt(pipe, static, dynamic.expand(-1, 3, -1), **arguments)
    close(clips, clips[:, :1].expand_as(clips), 1e-5)
    assert distance(clips[0], clips[1]) > 1e-3


@pytest.mark.parametrize("name", NAMED_SCHEDULERS)
def test_every_scheduler_that_we_name_shares_its_noise_and_repeats_itself(name):
    if name == "DPMSolverSDEScheduler":
        pytest.importorskip("torchsde")
    pipe = tiny_pipeline(getattr(diffusers, name).from_config(SharedNoiseDDPMScheduler().config), 4)
    static, dynamic = random_tokens(2, 1)
    tokens = static, dynamic.expand(-1, 3, -1)
    calls = []
    clips = pt(pipe, *tokens, callback_on_step_end=lambda *call: calls.append(call[1]) or {})
    close(clips, clips[:, :1].expand_as(clips), 1e-5)
    assert clips.isfinite().all() and distance(clips[0], clips[1]) > 1e-3
    close(pt(pipe, *tokens, frames_per_batch=2), clips, 1e-4)
    assert calls == list(range(len(calls))) and len(calls) >= 4


def test_every_other_scheduler_of_diffusers_is_refused():
    others, config, models = [], SharedNoiseDDPMScheduler().config, (tiny_encoder(), tiny_unet())
    for name in sorted(name for name in dir(diffusers) if name.endswith("Scheduler") and name not in NAMED_SCHEDULERS):
        try:
            scheduler = getattr(diffusers, name).from_config(config)
        except (TypeError, ImportError):  # wants more than any configuration has, or a library
            continue
        if isinstance(scheduler, diffusers.SchedulerMixin):
            others.append(name)
            with pytest.raises(ValueError, match=f"{name} is not among the schedulers|reads its output as"):
                DiViDPipeline(*models, scheduler)
    assert {"FlowMatchEulerDiscreteScheduler", "IPNDMScheduler", "DDIMInverseScheduler"} < set(others)


def test_a_scheduler_of_ones_own_is_taken(pipe):
    class Mine(diffusers.EulerDiscreteScheduler):
        pass

    pipe.scheduler = Mine.from_config(pipe.scheduler.config)
    assert pt(pipe, *random_tokens()).isfinite().all()


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DDPMScheduler"])
def test_a_model_that_was_trained_without_shared_noise_is_sampled_without(scheduler):
    scheduler = getattr(diffusers, scheduler).from_config(SharedNoiseDDPMScheduler().config)
    pipe, (static, dynamic) = tiny_pipeline(scheduler, shared_noise=False), random_tokens(2, 1)
    tokens = static, dynamic.expand(-1, 3, -1)
    clips = pt(pipe, *tokens)
    frames = clips.flatten(0, 1)
    assert all(distance(one, other) > 1e-3 for i, one in enumerate(frames) for other in frames[:i])
    assert torch.equal(clips, pt(pipe, *tokens)) and torch.equal(clips[:, :2], pt(pipe, static, tokens[1][:, :2]))
    close(pt(pipe, *tokens, frames_per_batch=2), clips, 1e-4)


def test_clips_with_equal_tokens_get_different_noise(pipe):
    static, dynamic = random_tokens(1)
    clips = pt(pipe, static.expand(2, -1), dynamic.expand(2, -1, -1))
    assert distance(clips[0], clips[1]) > 1e-3


def test_a_batch_with_a_generator_per_clip_equals_the_clips_alone(any_scheduler):
    pipe, arguments = any_scheduler
    static, dynamic = random_tokens()
    batch = pt(pipe, static, dynamic, generator=[seeded(1), seeded(2)], **arguments)
    for i in range(2):
        alone = pt(pipe, static[i, None], dynamic[i, None], generator=seeded(i + 1), **arguments)
        close(batch[i, None], alone)


@pytest.mark.parametrize("frames_per_batch", [1, 4])
def test_frames_per_batch_does_not_change_the_result(any_scheduler, frames_per_batch):
    pipe, arguments = any_scheduler
    tokens = random_tokens()
    close(pt(pipe, *tokens, frames_per_batch=frames_per_batch, **arguments), pt(pipe, *tokens, **arguments))


def test_a_call_leaves_the_pipeline_as_it_was(any_scheduler):
    pipe, arguments = any_scheduler
    before = {name: repr(value) for name, value in vars(pipe.scheduler).items()}
    pt(pipe, *random_tokens(), **arguments)
    assert {name: repr(value) for name, value in vars(pipe.scheduler).items()} == before


def test_start_noise_can_be_given_per_clip_or_per_frame(pipe):
    tokens = random_tokens()
    noise = torch.randn(2, 1, 3, SIZE, SIZE, generator=seeded(5))
    clips = pt(pipe, *tokens, latents=noise)
    assert torch.equal(clips, pt(pipe, *tokens, latents=noise.expand(-1, 3, -1, -1, -1)))
    assert distance(clips, pt(pipe, *tokens, latents=-noise)) > 1e-3
    lone = pt(pipe, tokens[0], [tokens[1][0], tokens[1][1, :2]], latents=noise)
    close(lone[0], clips[0])


def test_the_checkpoints_number_of_steps_is_the_default(pipe):
    tokens = random_tokens()
    assert torch.equal(pt(pipe, *tokens), pt(pipe, *tokens, num_inference_steps=3))
    assert distance(pt(pipe, *tokens), pt(pipe, *tokens, num_inference_steps=5)) > 1e-3
