"""What users do with clips: every operation, its shapes, its reproducibility, and what it refuses."""

import diffusers
import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from PIL import Image
from tiny import SIZE, WIDTH, influence, random_clips, random_tokens, seeded, tiny_encoder, tiny_pipeline, tiny_unet

from divid_diffusers import DiViDPipeline, DiViDPipelineOutput, SharedNoiseDDPMScheduler
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


def close(one, other, atol=1e-4):
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


def distance(one, other):
    return (one - other).abs().max()


def pt(call, *args, **kwargs):
    """Frames of a call as a tensor, from the same noise every time unless told otherwise."""
    kwargs = {"generator": seeded(), "output_type": "pt"} | kwargs
    return call(*args, **kwargs).frames


A, B = random_clips(1, 4, seed=10), random_clips(1, 3, seed=11)


# --- operations and shapes -----------------------------------------------------------------------------------------

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


# --- noise ---------------------------------------------------------------------------------------------------------


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


# --- inversion -----------------------------------------------------------------------------------------------------


def teach(pipe):
    """Make the UNet a good denoiser of independent pixels of variance 1/3, which is what `random_clips` are."""
    abars, kind = pipe.scheduler.alphas_cumprod, pipe.unet.config.prediction_type

    def forward(sample, timestep, *_, return_dict=True, **__):
        abar = abars[int(timestep)]
        clean = abar.sqrt() / 3 / (abar / 3 + 1 - abar) * sample + 0.05 * torch.tanh(3 * sample.flip(-1))
        noise = (sample - abar.sqrt() * clean) / (1 - abar).sqrt()
        out = {
            "epsilon": noise,
            "sample": clean,
            "v_prediction": abar.sqrt() * noise - (1 - abar).sqrt() * clean,
        }[kind]
        return diffusers.models.unets.unet_2d_condition.UNet2DConditionOutput(out) if return_dict else (out,)

    pipe.unet.forward = forward


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_an_inverted_clip_is_reproduced_from_its_noise_and_better_with_more_steps(prediction_type):
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", prediction_type=prediction_type)
    pipe = tiny_pipeline(scheduler, prediction_type=prediction_type)
    teach(pipe)

    def error(latents, steps):
        again = pt(pipe.reconstruct, A, latents=latents, num_inference_steps=steps)
        return (again - (A / 2 + 0.5)).square().mean().item()

    noises = {steps: pipe.invert(A, num_inference_steps=steps) for steps in (20, 100)}
    assert noises[100].shape == A.shape
    assert noises[100].std() == pytest.approx(1, abs=0.15)
    assert error(noises[20], 20) < error(None, 20) / 20
    assert error(noises[100], 100) < min(error(noises[20], 20) / 5, 1e-3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_inversion_goes_through_the_network_with_the_clips_own_tokens(prediction_type):
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", prediction_type=prediction_type)
    pipe = tiny_pipeline(scheduler, prediction_type=prediction_type)
    noise = pipe.invert(A, num_inference_steps=4)
    assert noise.isfinite().all()
    assert torch.equal(noise, pipe.invert(A, num_inference_steps=4))
    assert distance(noise, pipe.invert(A, static_frame=1, num_inference_steps=4)) > 1e-3


def test_inversion_needs_clips_of_one_length(pipe):
    assert pipe.invert(random_clips(), num_inference_steps=2).shape == random_clips().shape
    with pytest.raises(ValueError, match="Inversion takes clips of one length"):
        pipe.invert([A[0], B[0]])


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.5, float("nan"), None])
def test_a_number_of_steps_that_inversion_cannot_take_is_refused(pipe, steps):
    with pytest.raises(ValueError, match=f"`num_inference_steps` is {steps}"):
        pipe.invert(A, num_inference_steps=steps)


def test_an_error_of_the_network_near_t_0_makes_inverted_noise_wider_than_noise_and_more_steps_do():
    """So the documentation says: x_T is no draw from N(0, I)."""
    pipe = tiny_pipeline(
        diffusers.DDIMScheduler(timestep_spacing="trailing", prediction_type="sample"), prediction_type="sample"
    )

    def off_by_a_tenth(sample, timestep, *_, **__):
        abar = pipe.scheduler.alphas_cumprod[int(timestep)]
        return diffusers.models.unets.unet_2d_condition.UNet2DConditionOutput(
            abar.sqrt() / 3 / (abar / 3 + 1 - abar) * sample + 0.1 * sample.flip(-1)
        )

    pipe.unet.forward = off_by_a_tenth
    few, many = (pipe.invert(A, num_inference_steps=steps).std() for steps in (20, 100))
    assert 1 < few < many


# --- guidance ------------------------------------------------------------------------------------------------------


def guidable():
    pipe = tiny_pipeline(static_dropout=0.1, dynamic_dropout=0.1)
    for token in (pipe.unet.null_static, pipe.unet.null_dynamic):
        torch.nn.init.normal_(token)
    return pipe


@pytest.mark.parametrize("scales", [(2.0, 1.0), (1.0, 3.0), (2.0, 3.0), (0.0, 1.0)], ids=str)
def test_guidance_is_the_combination_of_predictions_it_says(scales):
    pipe, (static, dynamic) = guidable(), random_tokens(1, 1)
    latents = torch.randn(1, 1, 3, SIZE, SIZE, generator=seeded(3))
    w_s, w_d = scales

    def predict(drop_static=False, drop_dynamic=False):
        drops = {"drop_static": torch.tensor([drop_static]), "drop_dynamic": torch.tensor([drop_dynamic])}
        return pipe.unet(latents, 999, static=static, dynamic=dynamic, **drops).sample

    with torch.no_grad():
        plain = predict()
        guided = plain + (w_s - 1) * (plain - predict(True, False)) + (w_d - 1) * (plain - predict(False, True))
    # One step from t = 999 all the way down; clip_sample off keeps it linear.
    pipe.scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    pipe.scheduler.set_timesteps(1)
    expected = pipe.scheduler.step(guided, 999, latents).prev_sample
    seen = {}
    pt(
        pipe,
        static,
        dynamic,
        num_inference_steps=1,
        latents=latents,
        static_guidance_scale=w_s,
        dynamic_guidance_scale=w_d,
        callback_on_step_end=lambda _, __, ___, tensors: seen.update(tensors),
    )
    torch.testing.assert_close(seen["latents"], expected[0], rtol=1e-4, atol=1e-3)


def test_a_scale_of_one_is_no_guidance_and_others_change_the_clip():
    pipe, tokens = guidable(), random_tokens()
    plain = pt(pipe, *tokens)
    assert torch.equal(plain, pt(pipe, *tokens, static_guidance_scale=1, dynamic_guidance_scale=1))
    for factor in ("static", "dynamic"):
        assert distance(plain, pt(pipe, *tokens, **{f"{factor}_guidance_scale": 3.0})) > 1e-3


@pytest.mark.parametrize("factor", ["static", "dynamic"])
def test_a_checkpoint_that_never_learned_null_tokens_cannot_be_guided(pipe, factor):
    with pytest.raises(ValueError, match=f"`{factor}_guidance_scale` is 2.0, but this checkpoint never learned"):
        pipe(*random_tokens(), **{f"{factor}_guidance_scale": 2.0})


# --- callback ------------------------------------------------------------------------------------------------------


def test_the_callback_is_called_after_every_step_of_every_piece(pipe):
    calls = []

    def callback(pipeline, step, timestep, tensors):
        assert pipeline is pipe
        calls.append((step, int(timestep), tuple(tensors["latents"].shape)))

    pt(pipe, *random_tokens(), frames_per_batch=4, callback_on_step_end=callback)
    assert [step for step, _, _ in calls] == list(range(6))
    assert [shape[0] for _, _, shape in calls] == [4] * 3 + [2] * 3
    times = [time for _, time, _ in calls]
    assert times[:3] == sorted(times[:3], reverse=True) and times[:3] == times[3:]


def test_the_callback_may_replace_the_latents(pipe):
    grey = pt(
        pipe,
        *random_tokens(),
        callback_on_step_end=lambda pipe, step, t, tensors: {"latents": torch.zeros_like(tensors["latents"])},
    )
    assert torch.equal(grey, torch.full_like(grey, 0.5))


def test_the_callback_knows_how_many_steps_there_are_and_may_interrupt_them(pipe):
    seen = []

    def stop(pipeline, step, timestep, tensors):
        seen.append((step, pipeline.num_timesteps, pipeline.interrupt))
        pipeline._interrupt = step == 3

    frames = pt(pipe, *random_tokens(), frames_per_batch=2, callback_on_step_end=stop)
    assert seen == [(step, 9, False) for step in range(4)]  # three steps for each of three pieces
    assert frames.shape == (2, 3, 3, SIZE, SIZE) and pipe.interrupt
    whole = pt(pipe, *random_tokens(), frames_per_batch=2)
    assert not pipe.interrupt and pipe.num_timesteps == 9
    assert torch.equal(frames.flatten(0, 1)[:2], whole.flatten(0, 1)[:2])
    assert distance(frames.flatten(0, 1)[4:], whole.flatten(0, 1)[4:]) > 1e-2


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "PNDMScheduler", "KDPM2DiscreteScheduler"])
def test_steps_are_counted_as_the_scheduler_takes_them(name):
    pipe = tiny_pipeline(getattr(diffusers, name).from_config(SharedNoiseDDPMScheduler().config))
    steps = []
    pt(pipe, *random_tokens(), num_inference_steps=5, callback_on_step_end=lambda *call: steps.append(call[1]) or {})
    assert pipe.num_timesteps == len(steps) > 5


class Halve(PipelineCallback):
    tensor_inputs = ["latents"]

    def callback_fn(self, pipeline, step_index, timesteps, callback_kwargs):
        if step_index == int(pipeline.num_timesteps * self.config.cutoff_step_ratio):
            return {"latents": callback_kwargs["latents"] / 2}
        return callback_kwargs


def test_callbacks_of_diffusers_bring_their_tensor_inputs_along(pipe):
    plain = pt(pipe, *random_tokens(), output_type="latent")
    one, last = Halve(cutoff_step_ratio=0.7), {"num_inference_steps": 3, "output_type": "latent"}
    close(pt(pipe, *random_tokens(), callback_on_step_end=one, **last), plain / 2, 1e-6)
    both = MultiPipelineCallbacks([one, one])
    close(pt(pipe, *random_tokens(), callback_on_step_end=both, **last), plain / 4, 1e-6)

    class Foreign(Halve):
        tensor_inputs = ["prompt_embeds"]

    with pytest.raises(ValueError, match="asks for prompt_embeds: choose from latents"):
        pt(pipe, *random_tokens(), callback_on_step_end=Foreign())


def test_a_callback_may_ask_for_nothing(pipe):
    seen = []

    def callback(pipeline, step, timestep, tensors):
        seen.append(tensors)

    pt(pipe, *random_tokens(), callback_on_step_end=callback, callback_on_step_end_tensor_inputs=[])
    assert seen == [{}] * 3


def test_latent_output_is_what_the_sampler_left(pipe):
    latents = pt(pipe, *random_tokens(), output_type="latent")
    assert latents.shape == (2, 3, 3, SIZE, SIZE) and latents.min() < 0
    close((latents / 2 + 0.5).clamp(0, 1), pt(pipe, *random_tokens()), 1e-6)
    static, dynamic = random_tokens()
    uneven = pt(pipe, static, [dynamic[0], dynamic[1, :2]], output_type="latent")
    assert [len(clip) for clip in uneven] == [3, 2]


# --- half a pipeline -----------------------------------------------------------------------------------------------


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


# --- what is refused -----------------------------------------------------------------------------------------------

STATIC, DYNAMIC = random_tokens()
NOISE = torch.zeros(2, 1, 3, SIZE, SIZE)


def broken(token):
    token = token.clone()
    token[-1, 0] = float("nan")
    return token


BAD_CALLS = {
    "NaN in s": ({"static": broken(STATIC)}, "tokens contain NaN or infinity"),
    "infinity in d": ({"dynamic": DYNAMIC / 0}, "tokens contain NaN or infinity"),
    "more clips in s": ({"static": torch.zeros(3, WIDTH)}, "one token per clip, a tensor \\(2, 16\\)"),
    "s of one clip": ({"static": STATIC[0]}, "one token per clip"),
    "s is a list": ({"static": list(STATIC)}, "one token per clip"),
    "s too wide": ({"static": torch.zeros(2, WIDTH + 1)}, "static tokens of width 16 .* but got 17 and 16"),
    "d too narrow": ({"dynamic": torch.zeros(2, 3, WIDTH - 1)}, "width 16, but got 16 and 15"),
    "d without frames": ({"dynamic": DYNAMIC[:, :0]}, "at least one frame, but clip 0 has shape \\(0, 16\\)"),
    "d of one clip": ({"dynamic": DYNAMIC[0, :2]}, "at least one frame, but clip 0 has shape \\(16,\\)"),
    "no clips": ({"static": STATIC[:0], "dynamic": DYNAMIC[:0]}, "no clips"),
    "latents of a frame": ({"latents": NOISE[:, 0]}, "`latents` must be \\(2, 1, 3, 16, 16\\)"),
    "latents of one clip": ({"latents": NOISE[:1]}, "`latents` must be \\(2, 1, 3, 16, 16\\)"),
    "latents of two frames": ({"latents": NOISE.repeat(1, 2, 1, 1, 1)}, "`latents` must be"),
    "latents too small": ({"latents": NOISE[..., :8]}, "`latents` must be"),
    "latents per frame, lengths differ": (
        {"dynamic": [DYNAMIC[0], DYNAMIC[1, :2]], "latents": NOISE.repeat(1, 3, 1, 1, 1)},
        "equally long",
    ),
    "NaN in latents": ({"latents": NOISE / 0}, "NaN"),
    "output type": ({"output_type": "gif"}, "`output_type` is 'gif': choose 'pil', 'np' or 'pt'"),
    "no frames at once": ({"frames_per_batch": 0}, "`frames_per_batch` is 0"),
    "no steps": ({"num_inference_steps": 0}, "`num_inference_steps` is 0"),
    "half a step": ({"num_inference_steps": 2.5}, "`num_inference_steps` is 2.5: give a whole number"),
    "steps too few for the scheduler": (
        {"num_inference_steps": 2, "scheduler": "PNDMScheduler"},
        "PNDMScheduler cannot take 2 steps",
    ),
    "too few generators": ({"generator": [seeded()]}, "1 generators|list of generators of length 1"),
    "callback inputs": ({"callback_on_step_end_tensor_inputs": ["static"]}, "callback_on_step_end_tensor_inputs"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_call_that_cannot_work_is_refused_in_a_sentence(pipe, name):
    arguments, message = BAD_CALLS[name]
    if scheduler := arguments.get("scheduler"):
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
        arguments = {key: value for key, value in arguments.items() if key != "scheduler"}
    with pytest.raises(ValueError, match=message):
        pipe(**({"static": STATIC, "dynamic": DYNAMIC, "generator": seeded()} | arguments))


BAD_OPERATIONS = {
    "unknown factor": (lambda pipe: pipe.interpolate(A, B, factor="both"), "`factor` is 'both'"),
    "one clip": (lambda pipe: pipe.interpolate(A, B, num_clips=1), "`num_clips` is 1"),
    "a batch": (lambda pipe: pipe.interpolate(random_clips(), A), "between two single clips"),
    "other length": (lambda pipe: pipe.interpolate(A, B, factor="dynamic"), "have 4 and 3 frames"),
    "unequal counts": (lambda pipe: pipe.swap(random_clips(2), random_clips(3)), "Got 2 static and 3 dynamic clips"),
    "frame out of range": (lambda pipe: pipe.reconstruct(A, static_frame=4), "`static_frame` is 4"),
    "NaN in the clip": (lambda pipe: pipe.encode(A * float("nan")), "NaN or infinite"),
}


@pytest.mark.parametrize("name", BAD_OPERATIONS)
def test_an_operation_that_cannot_work_is_refused_in_a_sentence(pipe, name):
    operation, message = BAD_OPERATIONS[name]
    with pytest.raises(ValueError, match=message):
        operation(pipe)


@pytest.mark.parametrize(
    "use",
    [
        lambda pipe: pipe(*random_tokens()),
        lambda pipe: pipe.encode(A),
        lambda pipe: pipe.invert(A),
        lambda pipe: DiViDPipeline(pipe.encoder, pipe.unet, pipe.scheduler),
    ],
    ids=["call", "encode", "invert", "construction"],
)
def test_a_scheduler_that_misreads_the_network_is_refused(pipe, use):
    pipe.scheduler = SharedNoiseDDPMScheduler(prediction_type="sample")
    with pytest.raises(ValueError, match="The UNet predicts 'epsilon' but the scheduler reads its output as 'sample'"):
        use(pipe)


@pytest.mark.parametrize("mismatch", [{"static_dim": 8}, {"dynamic_dim": 8}, {"sample_size": 8}, {"in_channels": 1}])
def test_parts_that_do_not_fit_together_are_refused(mismatch):
    name = next(iter(mismatch))
    with pytest.raises(ValueError, match=f"do not fit together: `{name}` is 16 in|do not fit together: `{name}` is 3"):
        DiViDPipeline(tiny_encoder(), tiny_unet(**mismatch), SharedNoiseDDPMScheduler())


def test_weights_offloaded_layer_by_layer_give_the_same_clip():
    # What enable_sequential_cpu_offload does, with the CPU as the accelerator: weights lie on "meta" between calls.
    pipe = tiny_pipeline()
    clip = torch.rand(1, 2, 3, SIZE, SIZE)
    before = pipe.reconstruct(clip, generator=torch.Generator().manual_seed(0), output_type="pt").frames
    cpu_offload(pipe.unet, execution_device=torch.device("cpu"))
    assert pipe.unet.null_static.device.type == "meta"
    after = pipe.reconstruct(clip, generator=torch.Generator().manual_seed(0), output_type="pt").frames
    assert torch.equal(before, after)
