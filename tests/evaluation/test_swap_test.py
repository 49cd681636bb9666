"""A perfect model and four cheats, each scored as it deserves."""

import math

import numpy as np
import pytest
import torch

from divid_diffusers.evaluation.statistics import pigeonhole_interval, wilson_interval
from divid_diffusers.evaluation.swap_test import ordered_pairs, paired, swap_test


# Clips whose first pixel is the identity (of 4) and whose second is the action (of 5), so that a judge reads them off.
NUM_IDENTITIES, NUM_ACTIONS = 4, 5
LABELS = {
    "identity": [i % NUM_IDENTITIES for i in range(20)],
    "action": [i // NUM_IDENTITIES for i in range(20)],
}


def draw(identity, action):
    clips = torch.zeros(len(identity), 3, 1, 2, 2)
    clips[..., 0, 0] = (torch.as_tensor(identity)[:, None, None]) / 10
    clips[..., 0, 1] = (torch.as_tensor(action)[:, None, None]) / 10
    return clips


CLIPS = draw(LABELS["identity"], LABELS["action"])


def judge(clips):
    read = (clips[:, 0, 0, 0] * 10).round().long()
    one_hot = torch.nn.functional.one_hot
    return {"identity": one_hot(read[:, 0], 10).float(), "action": one_hot(read[:, 1], 10).float()}


class Model:
    """Codes are the truth; `shows` says what a decoded clip shows of (static donor, dynamic donor)."""

    def __init__(self, shows):
        self.shows = shows

    def encode(self, clips):
        whole = (clips[:, :, 0, 0] * 10).round()
        return whole[:, 0], whole

    def decode(self, static, dynamic):
        return draw(*self.shows(static.long(), dynamic[:, 0].long()))


def score(shows, **options):
    return swap_test(Model(shows), judge, CLIPS, LABELS, **options)


def shares(scores):
    return tuple(scores[name][0] for name in ("static", "dynamic", "joint"))


def test_a_perfect_model():
    result = score(lambda s, d: (s[:, 0], d[:, 1]))
    assert shares(result["real"]) == shares(result["reconstructions"]) == (1, 1, 1)
    assert {name: part["n"] for name, part in result["swaps"].items()} == {
        "all": 380, "different in both": 240, "same static": 80, "same dynamic": 60,
    }  # fmt: skip
    assert all(shares(part) == (1, 1, 1) for part in result["swaps"].values())
    assert result["follows"]["identity"]["static donor"][0] == result["follows"]["action"]["dynamic donor"][0] == 1
    assert all(result["follows"][factor]["neither"][0] == 0 for factor in ("identity", "action"))
    assert result["swaps"]["all"]["joint"][1:] == list(wilson_interval(380, 380))


def test_a_model_that_copies_the_dynamic_donor():
    result = score(lambda s, d: (d[:, 0], d[:, 1]), people=range(20))
    assert shares(result["reconstructions"]) == (1, 1, 1)
    assert shares(result["swaps"]["different in both"]) == (0, 1, 0)
    assert shares(result["swaps"]["same static"]) == (1, 1, 1)
    assert result["follows"]["identity"]["dynamic donor"][0] == 1
    assert shares(result["swaps"]["all"]) == (80 / 380, 1, 80 / 380)
    right = [LABELS["identity"][a] == LABELS["identity"][b] for a, b in ordered_pairs(20)]
    over_people = pigeonhole_interval(right, np.array(ordered_pairs(20)))
    assert result["swaps"]["all"]["joint_over_people"] == list(over_people)


def test_a_model_that_ignores_d():
    result = score(lambda s, d: (s[:, 0], s[:, 1]))
    assert shares(result["swaps"]["different in both"]) == (1, 0, 0)
    assert shares(result["swaps"]["same dynamic"]) == (1, 1, 1)
    assert result["follows"]["action"]["static donor"][0] == 1


def test_a_model_that_ignores_s_and_knows_one_person():
    result = score(lambda s, d: (torch.full_like(d[:, 0], 2), d[:, 1]))
    assert shares(result["swaps"]["all"]) == (0.25, 1, 0.25) and shares(result["reconstructions"]) == (0.25, 1, 0.25)
    assert shares(result["real"]) == (1, 1, 1)
    follows = result["follows"]["identity"]
    assert follows["n"] == 300 and follows["static donor"][0] == follows["dynamic donor"][0] == 0.25
    assert follows["neither"][0] == 0.5


def test_right_identity_and_right_action_on_different_outputs_are_not_joint():
    result = score(lambda s, d: (s[:, 0], torch.where(s[:, 0] < 2, d[:, 1], (d[:, 1] + 1) % NUM_ACTIONS)))
    static, dynamic, joint = shares(result["swaps"]["all"])
    assert static == 1 and dynamic == joint == 0.5


@pytest.mark.parametrize("kind, of, alike", [("static", "identity", 80), ("dynamic", "action", 60)])
def test_several_factors_of_a_token_are_right_only_together_and_alike_only_together(kind, of, alike):
    """A factor that halves the classes of another, and that the judge always names wrongly."""
    labels = LABELS | {"half": [each % 2 for each in LABELS[of]]}
    factors = {"static": ("identity",), "dynamic": ("action",)}
    factors[kind] += ("half",)

    def with_half(clips):
        told = judge(clips)
        return told | {"half": torch.nn.functional.one_hot(1 - told[of].argmax(-1) % 2, 2).float()}

    result = swap_test(
        Model(lambda s, d: (s[:, 0], d[:, 1])), with_half, CLIPS, labels, factors["static"], factors["dynamic"]
    )
    assert shares(result["swaps"]["all"]) == ((0, 1, 0) if kind == "static" else (1, 0, 0))
    assert result["follows"]["half"][f"{kind} donor"][0] == 0
    assert result["swaps"][f"same {kind}"]["n"] == alike and result["swaps"]["different in both"]["n"] == 240


def test_realism_is_of_real_clips_and_of_swaps_of_others_as_many():
    """Clips show their own number, swaps the numbers of their donors."""
    clips = CLIPS.clone()
    clips[:, :, 0, 1, 0] = clips[:, :, 0, 1, 1] = torch.arange(20)[:, None].float()

    class Numbered:
        def encode(self, clips):
            return clips[:, 0, 0, 1, :1], clips[:, :, 0, 1, 1:]

        def decode(self, static, dynamic):
            decoded = torch.zeros(len(static), 3, 1, 2, 2)
            decoded[:, :, 0, 1, 0], decoded[:, :, 0, 1, 1] = static, dynamic[..., 0]
            return decoded

    looked_at = []

    def texture(clips):
        looked_at.append(clips[:, 0, 0, 1])
        return clips.flatten(1)

    result = swap_test(Numbered(), judge, clips, LABELS, batch_size=7, texture=texture)
    *swaps, real = looked_at
    swaps, real = torch.cat(swaps), set(real[:, 0].tolist())
    assert len(swaps) == len(real) == 10 and not real & set(swaps.flatten().tolist())
    assert result["realism"][0] == pytest.approx(1, abs=0.3)


def test_pairs_are_all_or_drawn_with_a_seed():
    assert len(ordered_pairs(5)) == len(set(ordered_pairs(5))) == 20 and all(a != b for a, b in ordered_pairs(5))
    assert ordered_pairs(9, 30, seed=1) == ordered_pairs(9, 30, seed=1) != ordered_pairs(9, 30, seed=2)
    assert len(set(ordered_pairs(9, 30))) == 30 and len(ordered_pairs(3, 100)) == 6
    assert ordered_pairs(2) == [(0, 1), (1, 0)]
    drawn = score(lambda s, d: (s[:, 0], d[:, 1]), pairs=ordered_pairs(20, 50), batch_size=7)
    assert drawn["swaps"]["all"]["n"] == 50 and shares(drawn["swaps"]["all"]) == (1, 1, 1)


def test_what_cannot_be_judged_is_refused_before_anything_is_decoded():
    class Untouchable:
        def encode(self, clips):
            raise AssertionError("work began")

    for labels, message in (
        ({"identity": LABELS["identity"]}, "no labels of 'action', only of identity"),
        (LABELS | {"action": [1] * 20}, "All clips have one 'action'"),
        (LABELS | {"action": [1, 2]}, "There are 2 labels of 'action' for 20 clips"),
    ):
        with pytest.raises(ValueError, match=message):
            swap_test(Untouchable(), judge, CLIPS, labels)
    with pytest.raises(ValueError, match="The judge does not know action, only identity: is it of this set"):
        swap_test(Untouchable(), lambda clips: {"identity": torch.ones(len(clips), 4)}, CLIPS, LABELS)
    with pytest.raises(ValueError, match="nothing to swap between 1 clips"):
        ordered_pairs(1)


def test_broken_codes_and_other_shapes_are_refused():
    class Broken(Model):
        def encode(self, clips):
            static, dynamic = super().encode(clips)
            return static * np.nan, dynamic

    with pytest.raises(ValueError, match="static codes hold NaN"):
        swap_test(Broken(None), judge, CLIPS, LABELS)

    class BrokenOnce(Model):
        def encode(self, clips):
            static, dynamic = super().encode(clips)
            dynamic[-1, -1, -1] = np.inf
            return static, dynamic

    with pytest.raises(ValueError, match="dynamic codes hold NaN or infinity"):
        swap_test(BrokenOnce(None), judge, CLIPS, LABELS)
    with pytest.raises(ValueError, match=r"decodes \(3, 1, 2, 2\), but the clips are \(4, 1, 2, 2\)"):
        longer = CLIPS[:, [0, 0, 1, 2]]
        swap_test(Model(lambda s, d: (s[:, 0], d[:, 1])), judge, longer, LABELS)


def test_two_models_are_compared_on_the_same_pairs_over_people():
    people = [i % 10 for i in range(20)]
    asked = {"people": people, "other_judges": {"again": judge}, "harder": [(0, 6), (6, 0)]}
    perfect = score(lambda s, d: (s[:, 0], d[:, 1]), **asked)
    copies = score(lambda s, d: (d[:, 0], d[:, 1]), **asked)
    group = perfect["pairs"]["different in both"]
    assert len(group["people"].split()) == len(group["right"]["again"]) == perfect["swaps"]["different in both"]["n"]
    assert paired(perfect, copies, "different in both") == pytest.approx((1, 1, 1))
    assert paired(perfect, copies, "harder", "again") == (1, -math.inf, math.inf), "too few people"
    assert paired(copies, perfect, "different in both")[0] == -1 and paired(perfect, perfect, "harder")[0] == 0
    assert paired(perfect, score(lambda s, d: (s[:, 0], d[:, 1])), "harder") is None
    assert paired(perfect, copies, "harder", "a judge that was not asked") is None


def test_models_that_were_asked_other_pairs_or_another_judge_are_not_compared():
    """Rows of as many pairs could be subtracted, and would say nothing."""

    def scored(people, judges=("",)):
        return {"pairs": {"harder": {"people": people, "right": dict.fromkeys(judges, "110")}}}

    here = scored("0,1 1,2 2,0")
    assert paired(here, scored("0,1 1,2 2,0"), "harder")[0] == 0
    assert paired(here, scored("0,1 1,2 2,1"), "harder") is None
    other = scored("0,1 1,2 2,0", judges=("", "another"))
    assert paired(here, other, "harder", "another") is None and paired(other, here, "harder", "another") is None


def test_one_person_has_no_interval_over_people():
    alone = score(lambda s, d: (s[:, 0], d[:, 1]), pairs=[(0, 5), (5, 0)], people=[0] * 20)
    assert "joint_over_people" not in alone["swaps"]["all"] and alone["swaps"]["all"]["joint"][0] == 1
    assert paired(alone, alone, "different in both") is None
