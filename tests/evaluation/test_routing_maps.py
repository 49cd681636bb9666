import math

import pytest
import torch
from diffusers import HeunDiscreteScheduler
from diffusers.models.attention_processor import AttnProcessor2_0
from PIL import Image
from tiny import SIZE, random_tokens, seeded, tiny_pipeline

from divid_diffusers.evaluation.routing_maps import captured_gates, join_pieces, routing_maps, routing_strip


def cross_attention_layers(unet):
    return {name: module for name, module in unet.named_modules() if name.endswith(".attn2")}


def processors(unet):
    return {name: layer.processor for name, layer in cross_attention_layers(unet).items()}


def decode(pipe, **options):
    return pipe(*random_tokens(), generator=seeded(), output_type="pt", **options).frames


def test_the_gate_is_the_softmax_over_the_two_keys(pipe):
    """By hand, from the layer's own inputs and weights, also where keys and values were computed beforehand."""
    static, dynamic = random_tokens(batch=1)
    layers = cross_attention_layers(pipe.unet)
    inputs = {}

    def remember(name):
        return lambda module, args, kwargs: inputs.update({name: (args[0], kwargs["encoder_hidden_states"])})

    handles = [layer.register_forward_pre_hook(remember(name), with_kwargs=True) for name, layer in layers.items()]
    noisy = torch.randn(3, 3, SIZE, SIZE, generator=seeded())
    context = pipe.unet.context(static, dynamic)
    with torch.no_grad():
        for given in (context, pipe.unet.cache_context(context)):
            with captured_gates(pipe.unet) as gates:
                pipe.unet(noisy, 500, given)
            for name, layer in layers.items():
                query = layer.to_q(inputs[name][0]).unflatten(-1, (layer.heads, -1))
                key = layer.to_k(context).unflatten(-1, (layer.heads, -1))
                logits = torch.einsum("flhc,fkhc->flhk", query, key) / math.sqrt(query.shape[-1])
                by_hand = logits.softmax(dim=-1)[..., 0].mean(dim=-1)
                assert len(gates[name]) == 1
                assert torch.allclose(gates[name][0].flatten(1), by_hand, atol=1e-6)
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("options", [{}, {"frames_per_batch": 4}], ids=["at once", "in pieces"])
def test_the_decoded_clip_is_the_same_to_the_bit(pipe, options):
    own = processors(pipe.unet)
    plain = decode(pipe, **options)
    output, maps = routing_maps(pipe, *random_tokens(), generator=seeded(), output_type="pt", **options)
    assert torch.equal(output.frames, plain)
    assert processors(pipe.unet).items() == own.items()
    assert list(maps) == [8]
    assert maps[8].shape == (3, 6, SIZE, SIZE)
    assert maps[8].min() >= 0 and maps[8].max() <= 1 and maps[8].std() > 0


def test_pieces_and_guidance_do_not_change_the_maps():
    pipe = tiny_pipeline(static_dropout=0.1, dynamic_dropout=0.1)
    static, dynamic = random_tokens()
    options = {"generator": seeded(), "num_inference_steps": 1}
    _, whole = routing_maps(pipe, static, dynamic, **options)
    guidance = {"static_guidance_scale": 2.0, "dynamic_guidance_scale": 3.0, "frames_per_batch": 4}
    _, guided = routing_maps(pipe, static, dynamic, **options | {"generator": seeded()} | guidance)
    assert torch.allclose(whole[8], guided[8], atol=1e-5)  # guidance cannot yet tell in the first step


def test_a_step_is_an_evaluation_and_clips_may_differ_in_length():
    scheduler = HeunDiscreteScheduler(prediction_type="epsilon")
    pipe = tiny_pipeline(scheduler, attention_levels=(True, True))
    static, dynamic = random_tokens(frames=4)
    _, maps = routing_maps(pipe, static, [dynamic[0], dynamic[1, :1]], num_inference_steps=3, frames_per_batch=2)
    assert {side: tuple(weight.shape) for side, weight in maps.items()} == {
        16: (5, 5, SIZE, SIZE),
        8: (5, 5, SIZE, SIZE),
    }


def test_every_number_fills_its_block_of_pixels(pipe):
    _, maps = routing_maps(pipe, *random_tokens(), generator=seeded())
    small = maps[8][..., ::2, ::2]
    assert torch.equal(maps[8], small.repeat_interleave(2, -1).repeat_interleave(2, -2))


@pytest.mark.parametrize("sign, weight", [(1.0, 1.0), (-1.0, 0.0)], ids=["s", "d"])
def test_a_token_whose_key_fits_every_query_gets_all_the_weight(pipe, sign, weight):
    unet = pipe.unet
    with torch.no_grad():
        for proj, value in ((unet.static_proj, 1.0), (unet.dynamic_proj, 0.0)):
            proj.weight.zero_()
            proj.bias.fill_(value)
        for layer in cross_attention_layers(unet).values():
            layer.to_q.weight.zero_()
            layer.to_q.bias = torch.nn.Parameter(torch.full((layer.to_q.out_features,), 10.0))
            layer.to_k.weight.fill_(sign)
    _, maps = routing_maps(pipe, *random_tokens(), generator=seeded())
    assert torch.allclose(maps[8], torch.full_like(maps[8], weight), atol=1e-6)


def test_processors_come_back_after_an_exception(pipe):
    own = processors(pipe.unet)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        routing_maps(pipe, *random_tokens(), callback_on_step_end=stop)
    assert all(processors(pipe.unet)[name] is processor for name, processor in own.items())


def test_what_cannot_be_captured_is_refused_and_left_alone(pipe):
    with captured_gates(pipe.unet), pytest.raises(ValueError, match="leave the other capture first"):
        routing_maps(pipe, *random_tokens())
    layer = next(iter(cross_attention_layers(pipe.unet).values()))
    layer.set_processor(AttnProcessor2_0())
    before = processors(pipe.unet)
    with pytest.raises(ValueError, match="is AttnProcessor2_0, not StaticDynamicAttnProcessor"):
        routing_maps(pipe, *random_tokens())
    assert processors(pipe.unet) == before


def test_pieces_are_joined_in_the_order_of_the_frames():
    first = [torch.full((2, 1, 1), float(step)) for step in (0, 1)]  # two frames, then one, in two steps each
    second = [
        torch.tensor([step, 99.0]).view(2, 1, 1) for step in (10.0, 11.0)
    ]  # with a second branch, to be left out
    assert join_pieces(first + second, [2, 1])[..., 0, 0].tolist() == [[0, 0, 10], [1, 1, 11]]


def test_the_strip_shows_frame_map_and_overlay():
    weights = torch.stack([torch.zeros(4, 6), torch.ones(4, 6), torch.full((4, 6), 0.5)])
    strip = routing_strip(Image.new("L", (6, 4), 100), weights, steps=[0, 1, 2])
    assert strip.size == (18, 12) and strip.mode == "RGB"
    assert [strip.getpixel((x, 0)) for x in (0, 6, 12)] == [(100, 100, 100), (33, 102, 172), (66, 101, 136)]
    assert strip.getpixel((6, 4)) == (178, 24, 43) and strip.getpixel((6, 8)) == (247, 247, 247)


def test_the_strip_refuses_other_sizes_and_steps():
    frame = Image.new("RGB", (4, 4))
    with pytest.raises(ValueError, match=r"must be \(steps, 4, 4\) like the frame"):
        routing_strip(frame, torch.zeros(2, 8, 8), [0])
    with pytest.raises(ValueError, match="choose from 0 to 1"):
        routing_strip(frame, torch.zeros(2, 4, 4), [2])
