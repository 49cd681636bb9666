"""Weights that are elsewhere between calls are where they are needed, however they are offloaded and asked for."""

import itertools

import pytest
import torch
from accelerate import cpu_offload
from diffusers.hooks.group_offloading import ModuleGroup
from tiny import (
    SIZE,
    random_clips,
    random_tokens,
    seeded,
    tiny_directions,
    tiny_encoder,
    tiny_pipeline,
    tiny_prior,
    tiny_unet,
)
from tiny_baselines import tiny_baseline

from divid_diffusers import DiViDTokens, SequentialVAEPipeline
from divid_diffusers.models.judge import ClipJudge


CPU = torch.device("cpu")
GROUPS = {
    "leaves": {"offload_type": "leaf_level"},
    "blocks": {"offload_type": "block_level", "num_blocks_per_group": 1},
    "pairs of blocks": {"offload_type": "block_level", "num_blocks_per_group": 2},
}


def offload_groups(model, groups):
    model.enable_group_offload(onload_device=CPU, **GROUPS[groups])


# What accelerate does with the CPU as the accelerator: between calls, weights lie on "meta".
WAYS = {name: lambda model, name=name: offload_groups(model, name) for name in GROUPS}
WAYS["layer by layer"] = lambda model: cpu_offload(model, execution_device=CPU)


@pytest.fixture
def poison(monkeypatch):
    """
    What diffusers considers offloaded is NaN: a weight that is used though nothing brought it in shows in the result.
    """
    away = {}

    def weights(group):
        modules = itertools.chain(*((*module.parameters(), *module.buffers()) for module in group.modules))
        return [each for each in (*modules, *group.parameters, *group.buffers) if each.is_floating_point()]

    def offload(group):
        for weight in weights(group):
            if weight not in away:
                away[weight] = weight.detach().clone()
                weight.data.fill_(float("nan"))

    def onload(group):
        for weight in weights(group):
            if weight in away:
                weight.data.copy_(away.pop(weight))

    monkeypatch.setattr(ModuleGroup, "offload_", offload)
    monkeypatch.setattr(ModuleGroup, "onload_", onload)
    return away


CLIPS = random_clips()
TOKENS = random_tokens()
DROP = {"drop_static": torch.tensor([True, False]), "drop_dynamic": torch.tensor([False, True])}
TIMES = torch.tensor([3, 900])
GIVEN = torch.tensor([[True, False, False, False], [False, True, True, False]])
EXTRAS = {"token_modulation": True, "position_embedding": True, "shrink_input": True}


def tiny_judge():
    return ClipJudge({"who": ["a", "b"]}, sample_size=SIZE, block_out_channels=(4, 8), lstm_hidden_dim=8).eval()


def cached(unet):
    context = unet.cache_context(unet.context(*TOKENS))
    frames = CLIPS.flatten(0, 1)
    return torch.stack([unet(frames, t, context).sample for t in (900, 3)])


MODELS = {
    "encoder": lambda: tiny_encoder(),
    "encoder with all": lambda: tiny_encoder(first_frame="null", pixel_shortcut=True, mid_block_add_attention=True),
    "unet": lambda: tiny_unet(),
    "unet with all": lambda: tiny_unet(**EXTRAS, static_dropout=0.1, dynamic_dropout=0.1),
    "judge": tiny_judge,
    "prior": lambda: tiny_prior(tiny_encoder()),
    "directions": lambda: tiny_directions(tiny_encoder()),
    **{
        f"{method} {form}": lambda method=method, form=form: tiny_baseline(method, form)
        for method in ("dbse", "spyl")
        for form in ("divid", "published")
    },
}
CALLS = {
    "encoder": {
        "forward": lambda encoder: torch.cat([each.flatten() for each in encoder(CLIPS).to_tuple()]),
        "encode_frames": lambda encoder: encoder.encode_frames(CLIPS),
        "encode_static": lambda encoder: encoder.encode_static(torch.ones(2, encoder.lstm.input_size)),
        "encode_dynamic": lambda encoder: encoder.encode_dynamic(torch.ones(2, 3, encoder.lstm.input_size).cumsum(1)),
    },
    "unet": {
        "forward": lambda unet: unet(CLIPS, TIMES, static=TOKENS[0], dynamic=TOKENS[1], **DROP).sample,
        "context": lambda unet: unet.context(*TOKENS, **DROP),
        "cached context": cached,
    },
    "judge": {
        "forward": lambda judge: judge(CLIPS)["who"],
        "predict": lambda judge: judge.predict(CLIPS)["who"],
        "feature_maps": lambda judge: torch.cat([each.flatten() for each in judge.feature_maps(CLIPS[0])]),
    },
    "prior": {
        "forward": lambda prior: torch.cat([part.flatten() for part in prior(*TOKENS, TIMES, GIVEN)]),
        "standardise": lambda prior: prior.standardise(DiViDTokens(*TOKENS)).dynamic,
        "sample": lambda prior: prior.sample(2, static=TOKENS[0], num_inference_steps=2, generator=seeded()).dynamic,
    },
    "directions": {"move": lambda directions: directions.move(*TOKENS, {"static 1": 1.0, "dynamic 2": -2.0})[1]},
    "baseline": {
        "forward": lambda model: model(CLIPS),
        "embed": lambda model: model.embed(CLIPS),
        "encode": lambda model: model.encode(CLIPS).dynamic,
        "decode": lambda model: model.decode(torch.ones(2, 6), torch.ones(2, 3, 5)),
        "sample_dynamic": lambda model: model.sample_dynamic(2, 3, seeded()),
    },
}
CASES = [
    (model, call) for model in MODELS for call in CALLS.get(model.split()[0], CALLS["baseline"])
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "call"), CASES)
def test_every_method_finds_its_weights_and_they_are_away_again_afterwards(poison, name, call, way):
    model = MODELS[name]()
    for parameter in model.parameters():  # a null token of zeros would look like a weight that is not there
        torch.nn.init.normal_(parameter, std=0.1)
    ask = CALLS.get(name.split()[0], CALLS["baseline"])[call]
    with torch.no_grad():
        expected = ask(model)
        WAYS[way](model)
        for _ in range(2):
            torch.testing.assert_close(ask(model), expected, rtol=1e-5, atol=1e-6)
            away = [poison.get(weight) is not None or weight.is_meta for weight in model.parameters()]
            assert all(away)


@pytest.mark.parametrize("groups", GROUPS)
def test_a_pipeline_with_all_its_parts_offloaded_gives_the_same_clips(poison, groups):
    def use(pipe, **options):
        return pipe.swap(CLIPS, CLIPS.flip(0), generator=seeded(), output_type="pt", **options).frames

    def rest(pipe):
        edited = pipe.edit(CLIPS, {"static 1": 1.0, "dynamic 1": -1.0}, generator=seeded(), output_type="pt")
        new = pipe.generate(static=CLIPS, num_frames=3, prior_steps=2, generator=seeded(), output_type="pt")
        return torch.stack([edited.frames, new.frames])

    guidance = {"static_guidance_scale": 2.0, "dynamic_guidance_scale": 1.5}
    pipe = tiny_pipeline(static_dropout=0.1, dynamic_dropout=0.1, **EXTRAS)
    pipe.register_modules(directions=tiny_directions(pipe.encoder), prior=tiny_prior(pipe.encoder))
    baseline = SequentialVAEPipeline(tiny_baseline())
    expected = use(pipe, **guidance), pipe.invert(CLIPS, num_inference_steps=2), use(baseline), rest(pipe)
    for each in (pipe, baseline):
        each.enable_group_offload(onload_device=CPU, **GROUPS[groups])
    offloaded = use(pipe, **guidance), pipe.invert(CLIPS, num_inference_steps=2), use(baseline), rest(pipe)
    for one, other in zip(expected, offloaded, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "directions"])  # they have no layers
def test_weights_may_be_stored_in_eight_bits_and_computed_with_in_more(name):
    model = MODELS[name]()
    calls = CALLS.get(name.split()[0], CALLS["baseline"])
    with torch.no_grad():
        expected = {call: ask(model) for call, ask in calls.items()}
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
        assert torch.float8_e4m3fn in {weight.dtype for weight in model.parameters()}
        for call, ask in calls.items():
            out = ask(model)
            assert out.dtype == torch.float32 and (out - expected[call]).norm() < 0.3 * expected[call].norm()


def test_without_offloading_a_method_is_called_as_it_is():
    """Nothing of the model is written to: threads share it, and a compiler sees no more than the method."""
    encoder = tiny_encoder()
    before = set(vars(encoder))
    encoder.encode_frames(CLIPS)
    encoder(CLIPS)
    assert set(vars(encoder)) == before
