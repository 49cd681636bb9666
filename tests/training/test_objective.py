"""The whole objective, with its options, on tiny models."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from tiny import SIZE, random_clips, random_tokens, tiny_encoder, tiny_unet
from torch.utils._python_dispatch import TorchDispatchMode
from trainer.arguments import parse_args

from divid_diffusers import SharedNoiseDDPMScheduler
from divid_diffusers.training import step_noise
from divid_diffusers.training.losses import orthogonality_loss
from divid_diffusers.training.objective import TrainingModule, objective, views


def evaluate(*flags, with_model=False, **encoder):
    torch.manual_seed(0)
    args = parse_args(["--preset=paper", "--num_frames", "3", "--train_batch_size", "2", *flags])
    model = TrainingModule(tiny_encoder(**encoder), tiny_unet(prediction_type=args.prediction_type))
    noise = step_noise.draw(args, 0, 0, 0, 1, 3, SIZE, 16, 1000)
    scheduler = SharedNoiseDDPMScheduler(prediction_type=args.prediction_type)
    result = objective(model, random_clips(batch=2, frames=3), noise, scheduler, args)
    return (result, model) if with_model else result


def test_the_loss_is_its_two_terms():
    result = evaluate("--orthogonality_weight", "0.5")
    assert torch.allclose(result.loss, result.loss_ddpm + 0.5 * result.loss_orth)
    assert torch.allclose(result.loss_ddpm, result.per_clip.mean())


def test_tokens_of_unequal_widths_have_no_orthogonality_and_only_a_weight_of_0_lets_them_pass():
    def evaluate_uneven(weight):
        args = parse_args(
            ["--preset=paper", "--num_frames", "3", "--train_batch_size", "2", "--orthogonality_weight", weight]
        )
        noise = step_noise.draw(args, 0, 0, 0, 1, 3, SIZE, 16, 1000)
        model = TrainingModule(tiny_encoder(dynamic_dim=8), tiny_unet(dynamic_dim=8))
        return objective(model, random_clips(batch=2, frames=3), noise, SharedNoiseDDPMScheduler(), args)

    with pytest.raises(ValueError, match="tokens of one width, but s has 16 and d 8 .*`--orthogonality_weight`"):
        evaluate_uneven("0.1")
    assert evaluate_uneven("0").loss_orth == 0


def test_each_frame_is_asked_for_its_own_noise_where_noise_is_not_shared():
    clips, noise = random_clips(2, 3), draws("--no-shared_noise")
    seen, result = seen_by_the_model(clips, noise, "--no-shared_noise")
    frames = clips[torch.arange(2)[:, None], noise.frames]
    abar = SharedNoiseDDPMScheduler().alphas_cumprod[noise.timesteps].view(-1, 1, 1, 1, 1)
    assert torch.allclose(seen["noisy"], abar.sqrt() * frames + (1 - abar).sqrt() * noise.noise, atol=1e-6)
    expected = (noise.noise - seen["noisy"]).square().mean(dim=(1, 2, 3, 4))
    assert torch.allclose(result.per_clip, expected)


TWO_TIMES = {"timesteps": torch.tensor([100, 900])}


def test_a_velocity_is_that_of_the_clip_s_own_time():
    clips, noise = random_clips(2, 3), draws(**TWO_TIMES)
    seen, result = seen_by_the_model(clips, noise, "--prediction_type", "v_prediction")
    abar = SharedNoiseDDPMScheduler().alphas_cumprod[noise.timesteps].view(-1, 1, 1, 1, 1)
    velocity = abar.sqrt() * noise.noise - (1 - abar).sqrt() * clips[torch.arange(2)[:, None], noise.frames]
    expected = (velocity - seen["noisy"]).square().mean(dim=(1, 2, 3, 4))
    assert torch.allclose(result.per_clip, expected)


def test_the_decoder_is_told_the_time_of_its_own_clip_and_every_d_is_held_against_s():
    clips, noise, told = random_clips(2, 3), draws(**TWO_TIMES), []
    model = TrainingModule(tiny_encoder(), tiny_unet())
    model.unet.register_forward_pre_hook(lambda _, given: told.append(given))
    args = parse_args(["--preset=paper", "--num_frames", "3", "--train_batch_size", "2"])
    result = objective(model, clips, noise, SharedNoiseDDPMScheduler(), args)
    noisy, timesteps = told[0]
    assert torch.equal(timesteps, noise.timesteps)
    assert torch.equal(noisy, seen_by_the_model(clips, noise)[0]["noisy"])
    tokens = model.encoder(clips)
    assert torch.allclose(result.loss_orth, orthogonality_loss(tokens.static, tokens.dynamic))
    assert not torch.allclose(result.loss_orth, orthogonality_loss(tokens.static, tokens.dynamic[:, :1]))


def test_swaps_that_are_predicted_in_one_step_are_of_one_frame_whatever_the_noise():
    flags = ["--invariance_weight", "0.1", "--prediction_type", "sample"]
    assert evaluate(*flags, "--no-shared_noise").loss_inv.isfinite()


def test_motion_weight_raises_the_loss_and_leaves_tokens_alone():
    plain, weighted = evaluate(), evaluate("--motion_weight", "4")
    assert (weighted.per_clip > plain.per_clip).all()
    assert torch.equal(plain.loss_orth, weighted.loss_orth)


def test_a_huber_scale_changes_the_denoising_term_only():
    plain, huber = evaluate(), evaluate("--huber_scale", "0.1")
    assert not torch.allclose(plain.per_clip, huber.per_clip)
    assert torch.equal(plain.loss_orth, huber.loss_orth)


def seen_by_the_model(clips, noise, *flags):
    """What the objective hands to the model, and its result; the model's prediction is the noisy frames themselves."""
    args = parse_args(["--preset=paper", "--num_frames", "3", "--train_batch_size", "2", *flags])
    seen = {}

    def model(people, motions, noisy, noise, last_timestep, args):
        static_clips, dynamic_clips = views(people, motions, noise, args)
        seen.update(static=static_clips, dynamic=dynamic_clips, noisy=noisy)
        return noisy, *random_tokens(), None

    scheduler = SharedNoiseDDPMScheduler(prediction_type=args.prediction_type)
    return seen, objective(model, clips, noise, scheduler, args)


def draws(*flags, **changes):
    args = parse_args(["--preset=paper", "--num_frames", "3", "--train_batch_size", "2", *flags])
    return replace(step_noise.draw(args, 0, 0, 0, 1, 3, SIZE, 16, 1000), **changes)


def test_what_is_augmented_is_what_d_is_read_from():
    plain, augmented = evaluate(), evaluate("--dynamic_recolour=0.5")
    assert torch.equal(plain.rate, augmented.rate) and not torch.allclose(plain.loss_orth, augmented.loss_orth)


@pytest.mark.parametrize("flags", [["--dynamic_recolour=0.5", "--dynamic_stretch=0.2"], ["--dynamic_recolour=0.5"]])
def test_an_augmentation_reaches_d_and_not_s(flags):
    clips = random_clips(batch=2, frames=3)
    seen, _ = seen_by_the_model(clips, draws(*flags), *flags)
    assert torch.equal(seen["static"], clips)
    assert not torch.isclose(seen["dynamic"], clips).any(dim=(2, 3, 4)).all()


def test_the_motion_weight_is_relative_to_the_clip_s_first_frame_though_others_are_denoised():
    flags, clips = (
        ["--frames_per_clip", "1", "--prediction_type", "sample", "--motion_weight", "4"],
        random_clips(2, 3),
    )
    last = draws(*flags, frames=torch.tensor([[2], [2]]))
    seen, result = seen_by_the_model(clips, last, *flags)
    error = (seen["noisy"] - clips[:, 2:]).square()
    weight = 1 + 4 * (clips[:, 2:] - clips[:, :1]).abs().mean(dim=2, keepdim=True).clamp(max=1)
    torch.testing.assert_close(result.per_clip, (weight * error).mean(dim=(1, 2, 3, 4)))


@pytest.mark.parametrize("token", ["static", "dynamic"])
def test_a_dropped_token_is_not_read_and_only_where_it_is_dropped(token):
    clips, flags = random_clips(2, 3), ["--orthogonality_weight", "0"]
    torch.manual_seed(0)
    model = TrainingModule(tiny_encoder(), tiny_unet())
    for place in (model.unet.null_static, model.unet.null_dynamic):
        torch.nn.init.normal_(place)
    scheduler, args = (
        SharedNoiseDDPMScheduler(),
        parse_args(["--preset=paper", "--num_frames", "3", "--train_batch_size", "2", *flags]),
    )
    plain = objective(model, clips, draws(*flags), scheduler, args).per_clip
    first = draws(*flags, **{f"drop_{token}": torch.tensor([True, False])})
    dropped = objective(model, clips, first, scheduler, args).per_clip
    assert not torch.isclose(plain[0], dropped[0]) and torch.isclose(plain[1], dropped[1])


def test_half_of_the_static_frames_are_mirrored_and_no_dynamic_one():
    args = parse_args(["--preset=paper", "--train_batch_size", "2000", "--static_mirror"])
    share = step_noise.draw(args, 0, 0, 0, 1, 1, 1, 1, 1000).mirror.float().mean()
    assert 0.45 < share < 0.55
    clips, first = random_clips(batch=2, frames=3), torch.tensor([True, False])
    seen, _ = seen_by_the_model(clips, draws("--static_mirror", mirror=first), "--static_mirror")
    assert torch.equal(seen["static"][0], clips[0].flip(-1)) and torch.equal(seen["static"][1], clips[1])
    assert torch.equal(seen["dynamic"], clips)


def test_a_bottleneck_sends_s_through_noise_and_charges_for_it():
    plain, narrow = evaluate(), evaluate("--static_bottleneck", "0.01")
    assert torch.equal(plain.rate, narrow.rate) and torch.equal(plain.loss_orth, narrow.loss_orth)
    assert not torch.allclose(plain.loss_ddpm, narrow.loss_ddpm)
    assert torch.allclose(narrow.loss, narrow.loss_ddpm + 0.1 * narrow.loss_orth + 0.01 * narrow.rate)


def test_timestep_bias_draws_high_noise_more_often():
    args = parse_args(["--preset=paper", "--train_batch_size", "2000", "--timestep_bias", "3"])
    biased = step_noise.draw(args, 0, 0, 0, 1, 1, 1, 1, 1000).timesteps
    args.timestep_bias = 1.0
    uniform = step_noise.draw(args, 0, 0, 0, 1, 1, 1, 1, 1000).timesteps
    assert abs((uniform >= 900).float().mean() - 0.1) < 0.03
    assert abs((biased >= 900).float().mean() - 0.1 ** (1 / 3)) < 0.03
    assert 0 <= biased.min() and biased.max() <= 999


INVARIANCE = ["--prediction_type", "sample", "--invariance_weight", "0.5", "--orthogonality_weight", "0"]


def test_the_invariance_loss_trains_what_reads_s_and_nothing_else():
    result, model = evaluate(*INVARIANCE, with_model=True)
    assert torch.allclose(result.loss, result.loss_ddpm + 0.5 * result.loss_inv) and result.loss_inv > 0
    result.loss_inv.backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {"encoder.static_encoder.4.weight", "encoder.image_encoder.proj.weight"} <= reached
    assert not any(name.startswith(("unet.", "encoder.lstm", "encoder.dynamic_proj")) for name in reached)


def test_the_swaps_that_s_is_read_from_are_of_its_own_clip_and_the_motion_of_another():
    torch.manual_seed(0)
    seen = {}

    def unet(noisy, timestep, static, dynamic, **_):
        seen.update(static=static, dynamic=dynamic)
        return UNet2DConditionOutput(sample=noisy.expand(-1, dynamic.shape[1], -1, -1, -1))

    unet.config = tiny_unet().config
    model, clips = TrainingModule(tiny_encoder(), unet), random_clips(batch=2, frames=3)
    args = parse_args(["--preset=paper", "--num_frames", "3", "--train_batch_size", "2", *INVARIANCE])
    noise = step_noise.draw(args, 0, 0, 0, 1, 3, SIZE, 16, 1000)
    _, static, dynamic, static_of_swaps = model(clips, clips, noise.noise, noise, 999, args)
    torch.testing.assert_close(seen["static"], static)
    torch.testing.assert_close(seen["dynamic"], dynamic[[1, 0], noise.frames[[1, 0], 0]][:, None])
    torch.testing.assert_close(static_of_swaps, model.encoder(noise.noise).static)


def test_swaps_are_predicted_at_the_last_timestep():
    times = []
    torch.manual_seed(0)
    model = TrainingModule(tiny_encoder(), tiny_unet(prediction_type="sample"))
    model.unet.register_forward_pre_hook(lambda _, given: times.append(given[1]))
    args = parse_args(["--preset=paper", "--num_frames=3", "--train_batch_size=2", *INVARIANCE])
    objective(model, random_clips(2, 3), draws(*INVARIANCE), SharedNoiseDDPMScheduler(), args)
    assert times[1:] == [999]


def test_without_an_invariance_weight_nothing_is_swapped():
    assert evaluate("--prediction_type", "sample").loss_inv == 0


@pytest.mark.parametrize(
    "flags", [["--prediction_type=epsilon"], ["--prediction_type=sample", "--train_batch_size=1"]]
)
def test_an_invariance_loss_that_means_nothing_is_refused(flags, capsys):
    with pytest.raises(SystemExit):
        parse_args(["--preset=paper", "--invariance_weight=1", *flags])
    assert "--invariance_weight needs --prediction_type sample" in capsys.readouterr().err


def test_a_step_in_bf16_is_near_the_one_in_float32():
    steps = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            result, model = evaluate("--prediction_type", "sample", "--dynamic_recolour", "0.5", with_model=True)
        result.loss.backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        steps.append((result.loss.item(), gradients))
    (loss, exact), (loss_in_bf16, rounded) = steps
    assert loss_in_bf16 == pytest.approx(loss, rel=0.01)
    assert exact.keys() == rounded.keys()
    for part in ("encoder.", "unet."):
        one, other = (torch.cat([g[n].flatten() for n in g if n.startswith(part)]) for g in (exact, rounded))
        assert (one - other).norm() < 0.05 * one.norm()


def test_no_attention_is_trained_in_bf16_on_a_cpu():
    class Seen(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.dtypes = []

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            if "attention" in str(op):
                self.dtypes.append(args[0].dtype)
            return op(*args, **(kwargs or {}))

    with Seen() as seen:
        with torch.autocast("cpu", torch.bfloat16):
            result = evaluate(mid_block_add_attention=False)
        result.loss.backward()
    assert len(seen.dtypes) >= 4 and set(seen.dtypes) == {torch.float32}


SWAPS = ["--prediction_type", "sample", "--dynamic_swaps", "1", "--orthogonality_weight", "0"]


@pytest.mark.parametrize("of_all", [False, True])
def test_d_is_read_from_the_motion_as_the_next_clip_s_person_performs_it_where_that_was_drawn(of_all):
    clips, noise = random_clips(batch=3, frames=3), draws(*SWAPS, "--train_batch_size=3")
    noise = replace(noise, swap=torch.tensor([False, True, False]))
    torch.manual_seed(0)
    model = TrainingModule(tiny_encoder(), tiny_unet(prediction_type="sample"))
    shown = model.shown_by_others(clips, clips, noise, 999, of_all)
    assert torch.equal(shown[[0, 2]], clips[[0, 2]]) and not shown.requires_grad
    with torch.no_grad():
        static, dynamic = model.encoder(clips).static[2:], model.encoder(clips).dynamic[1:2]
        start = noise.noise[1:2].expand(-1, 3, -1, -1, -1)
        swap = model.unet(start, 999, static=static, dynamic=dynamic).sample
    torch.testing.assert_close(shown[1:2], swap.clamp(-1, 1))


def test_swaps_reach_d_alone_and_all_is_trained_as_before():
    clips, args = random_clips(2, 3), parse_args(["--preset=paper", "--num_frames=3", "--train_batch_size=2", *SWAPS])
    results = []
    for swap in (False, True):
        torch.manual_seed(0)
        model = TrainingModule(tiny_encoder(), tiny_unet(prediction_type="sample"))
        noise = draws(*SWAPS, swap=torch.tensor([swap, swap]))
        results.append(objective(model, clips, noise, SharedNoiseDDPMScheduler(), args))
    plain, swapped = results
    assert torch.equal(plain.rate, swapped.rate) and not torch.isclose(plain.per_clip, swapped.per_clip).any()
    swapped.loss.backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if "null" not in name)


def test_the_share_of_swaps_grows_from_nothing_unless_the_start_can_swap():
    args = parse_args(["--preset=paper", *SWAPS])
    assert [step_noise.swap_share(args, step) for step in (0, 1000, 2000, 9000)] == [0, 0.5, 1, 1]
    args.pretrained_model_name_or_path = "x"
    assert step_noise.swap_share(args, 0) == 1


@pytest.mark.parametrize("label, token", [("identity", "static"), ("action", "dynamic")])
def test_a_partner_gives_the_token_that_its_label_stands_for_and_nothing_else(label, token):
    clips, partners, flags = random_clips(2, 3), random_clips(2, 3, seed=1), ["--pair_by", label]
    args, seen = parse_args(["--preset=paper", "--num_frames=3", "--train_batch_size=2", *flags]), {}

    def model(people, motions, noisy, *_):
        seen.update(static=people, dynamic=motions)
        return noisy, *random_tokens(), None

    noise, scheduler = draws(*flags), SharedNoiseDDPMScheduler()
    result = objective(model, clips, noise, scheduler, args, partners)
    assert torch.equal(seen.pop(token), partners)
    assert torch.equal(seen.popitem()[1], clips)
    assert torch.equal(result.per_clip, objective(model, clips, noise, scheduler, args, clips).per_clip)


REFERENCE = ["--reference_frame", "--prediction_type", "sample", "--orthogonality_weight", "0"]


def with_reference(clips, noise, *flags):
    """The calls of a decoder that sees the static frame, and the objective."""
    torch.manual_seed(0)
    calls = []
    model = TrainingModule(tiny_encoder(), tiny_unet(prediction_type="sample", reference_frame=True))
    model.unet.register_forward_pre_hook(lambda _, args, given: calls.append(given), with_kwargs=True)
    args = parse_args(["--preset=paper", "--num_frames=3", "--train_batch_size=2", *REFERENCE, *flags])
    result = objective(model, clips, noise, SharedNoiseDDPMScheduler(prediction_type="sample"), args)
    return calls, result, model


def test_the_decoder_sees_the_static_frame_of_the_clip_or_of_the_next_where_it_is_a_swap_s():
    clips, flags = random_clips(2, 3), ["--dynamic_swaps=1", "--invariance_weight=1"]
    noise = draws(*REFERENCE, *flags, swap=torch.tensor([True, True]), hide_reference=torch.tensor([True, False]))
    (others, own, of_s), result, model = with_reference(clips, noise, *flags)
    assert torch.equal(others["reference"], clips[[1, 0], 0]) and "hide_reference" not in others
    assert torch.equal(own["reference"], clips[:, 0]) and torch.equal(own["hide_reference"], noise.hide_reference)
    assert torch.equal(of_s["reference"], clips[:, 0])
    result.loss.backward()
    assert model.unet.conv_in.weight.grad[:, 3:].abs().max() > 0


def test_the_static_frame_is_hidden_from_a_fifth_of_clips_and_from_all_that_lose_s():
    args = parse_args(
        ["--preset=paper", "--num_frames=3", "--train_batch_size=4000", "--static_dropout=0.5", *REFERENCE]
    )
    noise = step_noise.draw(args, 0, 0, 0, 1, 1, 1, 1, 1000)
    assert noise.hide_reference[noise.drop_static].all()
    assert abs(noise.hide_reference[~noise.drop_static].float().mean() - 0.2) < 0.04


def test_a_partner_s_static_frame_goes_with_its_s():
    clips, partners = random_clips(2, 3), random_clips(2, 3, seed=1)
    args = parse_args(["--preset=paper", "--num_frames=3", "--train_batch_size=2", "--pair_by=identity", *REFERENCE])
    model, seen = TrainingModule(tiny_encoder(), tiny_unet(prediction_type="sample", reference_frame=True)), []
    model.unet.register_forward_pre_hook(lambda _, args, given: seen.append(given["reference"]), with_kwargs=True)
    objective(model, clips, draws(*REFERENCE), SharedNoiseDDPMScheduler(prediction_type="sample"), args, partners)
    assert torch.equal(seen[0], partners[:, 0])
