"""What is told of every step, and may change or stop it."""

import diffusers
import pytest
import torch
from calls import close, distance, pt
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from tiny import SIZE, random_tokens, tiny_pipeline

from divid_diffusers import SharedNoiseDDPMScheduler


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
