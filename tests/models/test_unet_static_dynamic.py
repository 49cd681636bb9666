"""
Each frame sees its own two tokens and nothing else, by which blocks, and at the same result by every way of asking.
"""

import itertools

import diffusers
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from einops import rearrange
from tiny import SIZE, WIDTH, influence, random_clips, random_tokens, same_weights, tiny_unet

from divid_diffusers import PRESETS, DiViDUNet2DConditionModel
from divid_diffusers.models.attention_processor import StaticDynamicAttnProcessor


TIMES = torch.tensor([10, 900])


# The paper's decoder, and the one that gets the tokens and the position in other ways, too.
both_decoders = pytest.mark.parametrize(
    "extras", [{}, {"token_modulation": True, "position_embedding": True}], ids=["paper", "extras"]
)


def predict(unet, clips, static, dynamic, times=TIMES, **drops):
    return unet(clips, times, static=static, dynamic=dynamic, **drops).sample


# --- what a frame sees ---------------------------------------------------------------------------------------------


@both_decoders
def test_a_frame_sees_its_own_two_tokens_and_its_own_noise_only(extras):
    clips = random_clips().requires_grad_()
    static, dynamic = (token.requires_grad_() for token in random_tokens())
    out = predict(tiny_unet(**extras), clips, static, dynamic)
    for clip, frame in itertools.product(range(2), range(3)):
        own = torch.zeros(2, 3, dtype=torch.bool)
        own[clip, frame] = True
        assert torch.equal(influence(out[clip, frame], dynamic).any(dim=-1), own)
        assert torch.equal(influence(out[clip, frame], clips).flatten(2).any(dim=-1), own)
        assert torch.equal(influence(out[clip, frame], static).any(dim=-1), own.any(dim=1))


@both_decoders
@pytest.mark.parametrize("dropped", ["static", "dynamic"])
def test_a_dropped_token_has_no_influence_and_its_null_token_takes_its_place(dropped, extras):
    unet, clips = tiny_unet(**extras), random_clips()
    tokens = dict(zip(("static", "dynamic"), (token.requires_grad_() for token in random_tokens())))
    other = {"static": "dynamic", "dynamic": "static"}[dropped]
    # Only the second clip loses its token.
    out = predict(unet, clips, **tokens, **{f"drop_{dropped}": torch.tensor([False, True])})
    assert not influence(out[1], tokens[dropped]).any()
    assert influence(out[1], tokens[other])[1].any()
    assert influence(out[0], tokens[dropped])[0].any()
    null_tokens = {"static": unet.null_static, "dynamic": unet.null_dynamic}
    assert influence(out[1], null_tokens[dropped]).any()
    assert not influence(out[0], null_tokens[dropped]).any()
    assert not influence(out[1], null_tokens[other]).any()


@both_decoders
def test_every_clip_has_its_own_time(extras):
    unet, clips, tokens = tiny_unet(**extras), random_clips(), random_tokens()
    both = predict(unet, clips, *tokens)
    for clip, time in enumerate(TIMES):
        alone = predict(unet, clips[clip, None], *(token[clip, None] for token in tokens), times=time)
        torch.testing.assert_close(both[clip], alone[0], rtol=0, atol=1e-5)
    assert (both - predict(unet, clips, *tokens, times=10)).abs().max() > 1e-3


# --- ways of asking ------------------------------------------------------------------------------------------------


@both_decoders
def test_clips_and_frames_folded_into_the_batch_give_the_same(extras):
    unet, clips, tokens = tiny_unet(**extras), random_clips(), random_tokens()
    frames = unet(
        rearrange(clips, "b n c h w -> (b n) c h w"), TIMES.repeat_interleave(3), unet.context(*tokens)
    ).sample
    torch.testing.assert_close(predict(unet, clips, *tokens), rearrange(frames, "(b n) c h w -> b n c h w", b=2))


@both_decoders
def test_a_cached_context_and_stock_attention_give_the_same(extras):
    unet, clips, tokens = tiny_unet(**extras), random_clips(), random_tokens()
    context = unet.context(*tokens)
    plain = unet(clips, TIMES, context).sample
    cache = unet.cache_context(context)
    assert cache is not context
    assert torch.equal(unet(clips, TIMES, cache).sample, plain)
    unet.set_attn_processor(AttnProcessor2_0())
    assert unet.cache_context(context) is context
    torch.testing.assert_close(unet(clips, TIMES, context).sample, plain, rtol=0, atol=1e-5)


def test_the_context_is_projected_once_for_all_steps():
    unet, clips = tiny_unet(), random_clips().flatten(0, 1)
    cache = unet.cache_context(unet.context(*random_tokens()))
    first = unet(clips, 5, cache).sample
    for layer in (module for name, module in unet.named_modules() if name.endswith(".attn2")):
        layer.to_k.forward = layer.to_v.forward = None  # a second projection would fail
    assert torch.equal(unet(clips, 5, cache).sample, first)


STOCK_ATTENTION = {
    "sliced": lambda unet: unet.set_attention_slice("auto"),
    "fused": lambda unet: unet.fuse_qkv_projections(),
    "one processor": lambda unet: unet.set_attn_processor(AttnProcessor2_0()),
    "processors one by one": lambda unet: unet.set_attn_processor(dict(unet.attn_processors)),
}


@pytest.mark.parametrize("change", STOCK_ATTENTION)
def test_the_default_processors_come_back_whatever_was_installed(change):
    unet, clips, tokens = tiny_unet(), random_clips(), random_tokens()
    expected = {name: type(processor) for name, processor in unet.attn_processors.items()}
    plain = predict(unet, clips, *tokens)
    STOCK_ATTENTION[change](unet)
    torch.testing.assert_close(predict(unet, clips, *tokens), plain, rtol=0, atol=1e-5)
    unet.set_default_attn_processor()
    assert {name: type(processor) for name, processor in unet.attn_processors.items()} == expected
    torch.testing.assert_close(predict(unet, clips, *tokens), plain, rtol=0, atol=1e-6)


def test_the_input_shrinks_by_nearly_the_root_of_abar():
    abar = diffusers.DDPMScheduler(beta_start=1e-4, beta_end=0.02).alphas_cumprod
    ratio = DiViDUNet2DConditionModel._shrinkage(torch.arange(1000)).flatten() / abar.sqrt()
    error = (ratio - 1).abs()
    assert error.argmax() == 999 and 0.04 < error[999] < 0.05 and error[500] < 0.01


def test_the_gate_is_the_weight_of_the_static_token():
    layer = next(m for name, m in tiny_unet().named_modules() if name.endswith(".attn2"))
    query, context = torch.randn(2, 5, layer.to_q.in_features), torch.randn(2, 2, 16)
    key, value = layer.processor.keys_and_values(layer, context)
    gate = layer.processor.gate(layer.to_q(query).unflatten(-1, (layer.heads, -1)), key, layer.scale)
    assert gate.shape == (2, 5, layer.heads, 1)
    scores = layer.get_attention_scores(layer.head_to_batch_dim(layer.to_q(query)), layer.head_to_batch_dim(key))
    torch.testing.assert_close(gate[..., 0].transpose(1, 2), scores[..., 0].unflatten(0, (2, layer.heads)))


def test_an_attention_mask_is_refused():
    layer = next(m for name, m in tiny_unet().named_modules() if name.endswith(".attn2"))
    with pytest.raises(ValueError, match="nothing to mask"):
        layer.processor(layer, torch.randn(1, 5, 32), torch.randn(1, 2, 16), attention_mask=torch.ones(1, 2))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_the_output_has_the_shape_of_the_input(patch_size, channels):
    unet = tiny_unet(patch_size=patch_size, in_channels=channels, out_channels=channels)
    clips = random_clips(channels=channels)
    out = unet(clips, 5, *[None], *random_tokens(), return_dict=False)
    assert isinstance(out, tuple) and out[0].shape == clips.shape
    assert unet.conv_in.in_channels == channels * patch_size**2


@pytest.mark.parametrize(
    ("static", "dynamic", "message"),
    [
        (None, torch.zeros(2, 3, WIDTH), "needs `static` and `dynamic` tokens"),
        (torch.zeros(2, WIDTH), None, "needs `static` and `dynamic` tokens"),
        (torch.zeros(1, WIDTH), torch.zeros(2, 3, WIDTH), "of one batch"),
        (torch.zeros(2, 3, WIDTH), torch.zeros(2, 3, WIDTH), "of one batch"),
        (torch.zeros(2, WIDTH + 1), torch.zeros(2, 3, WIDTH), "static tokens of width 16 .* but got 17 and 16"),
        (torch.zeros(2, WIDTH), torch.zeros(2, 3, WIDTH - 1), "dynamic tokens of width 16, but got 16 and 15"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(static, dynamic, message):
    with pytest.raises(ValueError, match=message):
        predict(tiny_unet(), random_clips(), static, dynamic)


def test_one_flag_of_attention_per_level_is_required():
    with pytest.raises(ValueError, match="`attention_levels` has 1 entries and `block_out_channels` 2"):
        tiny_unet(attention_levels=(True,))


@both_decoders
def test_gradient_checkpointing_changes_no_gradient(extras):
    clips, tokens = random_clips(), random_tokens()

    def gradients(unet):
        predict(unet.train(), clips, *tokens, drop_static=torch.tensor([True, False])).square().sum().backward()
        return {name: parameter.grad for name, parameter in unet.named_parameters()}

    plain, checkpointed = tiny_unet(**extras), tiny_unet(**extras)
    checkpointed.load_state_dict(plain.state_dict())
    checkpointed.enable_gradient_checkpointing()
    assert any(getattr(module, "gradient_checkpointing", False) for module in checkpointed.modules())
    torch.testing.assert_close(gradients(checkpointed), gradients(plain))


def test_modulation_alone_carries_both_tokens():
    unet, tokens = tiny_unet(token_modulation=True), [token.requires_grad_() for token in random_tokens()]
    for layer in (m for name, m in unet.named_modules() if name.endswith(".attn2")):
        torch.nn.init.zeros_(layer.to_v.weight)
    out = predict(unet, random_clips(), *tokens)
    assert all(influence(out, token).any() for token in tokens)
    torch.nn.init.zeros_(unet.modulation_proj.weight)
    assert not any(influence(predict(unet, random_clips(), *tokens), token).any() for token in tokens)


def test_without_cross_attention_modulation_is_the_only_way_and_every_weight_is_used():
    unet, tokens = tiny_unet(token_modulation=True, cross_attention=False), random_tokens()
    assert not [
        name for name, _ in unet.named_parameters() if ".attn2." in name or ".norm2." in name and "transf" in name
    ]
    predict(unet, random_clips(), *tokens).square().mean().backward()
    assert all(weight.grad is not None for name, weight in unet.named_parameters() if not name.startswith("null_"))
    torch.nn.init.zeros_(unet.modulation_proj.weight)
    assert torch.equal(predict(unet, random_clips(), *tokens), predict(unet, random_clips(), *random_tokens(seed=1)))
    with pytest.raises(ValueError, match="no token reaches the frames"):
        tiny_unet(cross_attention=False)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_a_position_embedding_tells_places_apart_where_the_picture_does_not(patch_size):
    unet, flat = tiny_unet(position_embedding=True, patch_size=patch_size), torch.zeros(1, 1, 3, SIZE, SIZE)
    middle = unet.conv_in(torch.nn.functional.pixel_unshuffle(flat[0], patch_size))[0, :, 2:-2, 2:-2]
    assert middle.flatten(1).std(dim=1).min() > 1e-3
    plain = tiny_unet(patch_size=patch_size)
    middle = plain.conv_in(torch.nn.functional.pixel_unshuffle(flat[0], patch_size))[0, :, 2:-2, 2:-2]
    assert middle.flatten(1).std(dim=1).max() < 1e-6


# --- blocks --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[(True, True, True), (False, True, False), (False, False, True)], ids=str)
def levels_and_unet(request):
    levels = request.param
    return levels, tiny_unet(block_out_channels=(16, 32, 32), attention_levels=levels)


def has_attention(block):
    return any(isinstance(module, Transformer2DModel) for module in block.modules())


def test_attention_is_at_the_levels_named_and_in_the_middle(levels_and_unet):
    levels, unet = levels_and_unet
    assert tuple(map(has_attention, unet.down_blocks)) == levels
    assert tuple(map(has_attention, reversed(unet.up_blocks))) == levels
    assert has_attention(unet.mid_block)


def test_time_scales_and_shifts_every_residual_block(levels_and_unet):
    blocks = [module for module in levels_and_unet[1].modules() if isinstance(module, ResnetBlock2D)]
    assert {block.time_embedding_norm for block in blocks} == {"scale_shift"}
    assert all(block.time_emb_proj is not None for block in blocks)


def test_residual_blocks_and_no_convolutions_change_the_resolution(levels_and_unet):
    modules = list(levels_and_unet[1].modules())
    assert not any(module.use_conv for module in modules if isinstance(module, Downsample2D | Upsample2D))
    for direction in ("downsample", "upsample"):
        samplers = [m for m in modules if isinstance(m, ResnetBlock2D) and getattr(m, direction) is not None]
        assert len(samplers) == 2  # between three levels


def test_the_two_token_gate_is_in_every_cross_attention(levels_and_unet):
    processors = levels_and_unet[1].attn_processors
    for name, processor in processors.items():
        assert isinstance(processor, StaticDynamicAttnProcessor) == (".attn2." in name)
    assert any(".attn2." in name for name in processors)


def test_heads_can_differ_from_level_to_level():
    unet = tiny_unet(attention_levels=(True, True), num_attention_heads=(2, 4))
    heads = [{m.heads for n, m in block.named_modules() if n.endswith(".attn2")} for block in unet.down_blocks]
    assert heads == [{2}, {4}]
    assert predict(unet, random_clips(), *random_tokens()).shape == (2, 3, 3, SIZE, SIZE)


def test_the_papers_unet_has_the_papers_size():
    with torch.device("meta"):
        unet = DiViDUNet2DConditionModel(**PRESETS["paper"]["unet"])
    assert unet.num_parameters() == pytest.approx(177.6e6, rel=0.01)


# --- checkpoints ---------------------------------------------------------------------------------------------------


def test_the_configuration_says_what_the_user_said_and_not_what_the_parent_was_told(tmp_path, diffusers_warnings):
    unet = tiny_unet(
        patch_size=2,
        in_channels=1,
        out_channels=1,
        prediction_type="sample",
        static_dropout=0.1,
        token_modulation=True,
        position_embedding=True,
    )
    unet.save_pretrained(tmp_path)
    loaded = DiViDUNet2DConditionModel.from_pretrained(tmp_path)
    for config in (unet.config, loaded.config):
        assert (config.sample_size, config.in_channels, config.out_channels, config.patch_size) == (SIZE, 1, 1, 2)
        assert (config.prediction_type, config.static_dropout) == ("sample", 0.1)
    clips, tokens = random_clips(channels=1), random_tokens()
    assert torch.equal(predict(loaded, clips, *tokens), predict(unet, clips, *tokens))
    assert diffusers_warnings == []


def test_a_model_is_rebuilt_from_its_configuration(diffusers_warnings):
    unet = tiny_unet(patch_size=2, attention_levels=(True, True))
    rebuilt = DiViDUNet2DConditionModel.from_config(unet.config)
    rebuilt.load_state_dict(unet.state_dict())
    assert same_weights(rebuilt, unet)
    assert diffusers_warnings == []
