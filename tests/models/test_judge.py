"""A judge comes back with its accuracy, and refuses clips of another set."""

import pytest
import torch
from tiny import seeded

from divid_diffusers.models.judge import ClipJudge


FACTORS = {"identity": ["ann", "bob", "cy"], "action": ["walk", "run"]}


def tiny(kind):
    return ClipJudge(
        FACTORS, in_channels=1, sample_size=16, block_out_channels=(8, 8), lstm_hidden_dim=8, dataset="toys", kind=kind
    ).eval()


@pytest.fixture(params=["2d", "3d"])
def judge(request):
    torch.manual_seed(0)
    return tiny(request.param)


def test_every_factor_has_probabilities_whatever_the_length(judge):
    for num_frames in (1, 4):
        told = judge.predict(torch.rand(5, num_frames, 1, 16, 16, generator=seeded()), batch_size=2)
        assert {factor: tuple(each.shape) for factor, each in told.items()} == {"identity": (5, 3), "action": (5, 2)}
        for each in told.values():
            torch.testing.assert_close(each.sum(-1), torch.ones(5))


def test_it_loads_as_it_was_saved_with_its_accuracy(judge, tmp_path):
    judge.register_to_config(test_accuracy={"identity": [0.9, 0.8, 0.95, 50]})
    judge.save_pretrained(tmp_path)
    loaded = ClipJudge.from_pretrained(tmp_path)
    clips = torch.rand(2, 3, 1, 16, 16, generator=seeded())
    torch.testing.assert_close(judge.predict(clips), loaded.predict(clips), rtol=0, atol=0)
    assert loaded.config.factors["identity"] == FACTORS["identity"]
    assert loaded.describe() == "judge of toys, on 50 real held-out clips: identity 90.0 % [80.0, 95.0]"
    assert ClipJudge(FACTORS).describe() == "judge of unknown accuracy"


def test_it_says_how_it_does_on_blurred_and_on_noisy_clips(judge):
    accuracies = {f"{name}_accuracy": {"joint": [0.5, 0.4, 0.6, 50]} for name in ("test", "blurred", "noisy")}
    judge.register_to_config(**accuracies)
    assert judge.describe().endswith("joint 50.0 % [40.0, 60.0], all if blurred 50.0 % [40.0, 60.0], "
                                     "all if noisy 50.0 % [40.0, 60.0]")  # fmt: skip


def test_its_maps_are_one_per_level_and_frame_and_its_texture_one_row_per_clip(judge):
    clips = torch.rand(2, 3, 1, 16, 16, generator=seeded())
    with torch.no_grad():
        maps = judge.feature_maps(clips[0])
    assert [each.shape for each in maps] == [(3, 8, 8, 8), (3, 8, 4, 4)]
    texture = judge.texture(clips)
    assert texture.shape == (2, 2 * (8 + 8))
    torch.testing.assert_close(texture[0, :8], maps[0].mean(dim=(0, 2, 3)))
    torch.testing.assert_close(texture[0, 8:16], maps[0].flatten(2).std(dim=2, correction=0).mean(dim=0))


def test_only_the_one_in_space_and_time_sees_other_frames_in_its_first_layer():
    clips = torch.rand(1, 4, 1, 16, 16, generator=seeded())
    moved = torch.cat([clips[:, :2], clips[:, 2:].flip(1)], dim=1)
    with torch.no_grad():
        for kind, alike in (("2d", True), ("3d", False)):
            judge = tiny(kind)
            assert torch.equal(*(judge.feature_maps(each[0])[0][1] for each in (clips, moved))) == alike


def test_it_sees_the_order_of_frames(judge):
    clips = torch.rand(1, 4, 1, 16, 16, generator=seeded())
    assert not torch.allclose(judge(clips)["action"], judge(clips.flip(1))["action"])


def test_one_of_grey_clips_says_the_same_of_them_in_colour(judge):
    clips = torch.rand(2, 3, 1, 16, 16, generator=seeded())
    colour = judge.in_colour()
    for factor, told in colour.predict(clips.expand(-1, -1, 3, -1, -1)).items():
        torch.testing.assert_close(told, judge.predict(clips)[factor])
    assert colour.config.dataset == "toys"


def test_clips_of_another_set_and_factors_without_a_choice_are_refused(judge):
    with pytest.raises(
        ValueError, match="The judge of toys takes clips .* 1, 16, 16.*is it a judge of another data set"
    ):
        judge(torch.rand(1, 2, 3, 16, 16))
    with pytest.raises(ValueError, match="at least two classes each"):
        ClipJudge({"identity": ["only one"]})
    with pytest.raises(ValueError, match="no judge of the kind '4d': choose one of 2d, 3d"):
        tiny("4d")
