"""What cannot work is refused in a sentence, before any work."""

import diffusers
import pytest
import torch
from tiny import SIZE, WIDTH, random_clips, random_tokens, seeded, tiny_encoder, tiny_unet

from divid_diffusers import DiViDPipeline, SharedNoiseDDPMScheduler


A, B = random_clips(1, 4, seed=10), random_clips(1, 3, seed=11)


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
