"""A judge comes back with its accuracy, and refuses clips of another set."""

import pytest
import torch
from tiny import seeded

from divid_diffusers.models.judge import ClipJudge


FACTORS = {"identity": ["ann", "bob", "cy"], "action": ["walk", "run"]}


@pytest.fixture
def judge():
    return ClipJudge(
        FACTORS, in_channels=1, sample_size=16, block_out_channels=(8, 8), lstm_hidden_dim=8, dataset="toys"
    ).eval()


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


def test_it_sees_the_order_of_frames(judge):
    clips = torch.rand(1, 4, 1, 16, 16, generator=seeded())
    assert not torch.allclose(judge(clips)["action"], judge(clips.flip(1))["action"])


def test_clips_of_another_set_and_factors_without_a_choice_are_refused(judge):
    with pytest.raises(
        ValueError, match="The judge of toys takes clips .* 1, 16, 16.*is it a judge of another data set"
    ):
        judge(torch.rand(1, 2, 3, 16, 16))
    with pytest.raises(ValueError, match="at least two classes each"):
        ClipJudge({"identity": ["only one"]})
