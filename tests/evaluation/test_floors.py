"""
Each floor gets the score it deserves on a made-up set: a dot that moves left or right under a bar as bright as its
identity.
"""

from itertools import product

import pytest
import torch

from divid_diffusers.evaluation.floors import floors
from divid_diffusers.evaluation.swap_test import NearestClipJudge, harder_pairs, swap_test


KINDS = list(product(range(3), range(2), (3, 4)))  # identity, action (left, right), column where the dot starts
LABELS = {"identity": [kind[0] for kind in KINDS], "action": [kind[1] for kind in KINDS]}
NEITHER = 2  # no dot, several dots, or one that stays


def draw(identity, action, place):
    clip = torch.zeros(4, 1, 8, 8)
    clip[:, :, 0] = (1 + identity) / 10
    for i in range(4):
        clip[i, 0, 4, place + (i if action else -i)] = 0.5
    return clip


CLIPS = torch.stack([draw(*kind) for kind in KINDS])
PAIRS = [(a, b) for a in range(12) for b in range(12) if a != b]
SAME_PLACE = [(a, b) for a, b in PAIRS if KINDS[a][2] == KINDS[b][2]]
OTHER_PLACE = [pair for pair in PAIRS if pair not in SAME_PLACE]


def judge(clips):
    identity = (clips[:, 0, 0, 0].mean(dim=-1) * 10).round().long() - 1
    dots = clips[:, :, 0, 4] > 0.25
    moved = dots[:, -1].long().argmax(dim=1) - dots[:, 0].long().argmax(dim=1)
    action = torch.where((dots.sum(dim=2) == 1).all(dim=1) & (moved != 0), (moved > 0).long(), NEITHER)
    one_hot = torch.nn.functional.one_hot
    return {"identity": one_hot(identity.clamp(0, 2), 3).float(), "action": one_hot(action, 3).float()}


FLOORS = {floor.name: floor for floor in floors(CLIPS)}


def score(name, pairs, **options):
    return swap_test(FLOORS[name], judge, CLIPS, LABELS, pairs=pairs, batch_size=5, **options)


def shares(row):
    return tuple(row[kind][0] for kind in ("static", "dynamic", "joint"))


@pytest.mark.parametrize("name", ["pixel residual", "moving pixels pasted"])
def test_a_collage_is_right_where_both_start_at_one_place_and_has_two_dots_where_not(name):
    assert shares(score(name, SAME_PLACE)["swaps"]["all"]) == (1, 1, 1)
    assert shares(score(name, OTHER_PLACE)["swaps"]["all"])[1:] == (0, 0)


@pytest.mark.parametrize(
    "name, deserved",
    [
        ("static frame held", (1, 0, 0)),
        ("copy of the static donor", (1, 0, 0)),
        ("copy of the dynamic donor", (0, 1, 0)),
    ],
)
def test_what_shows_one_donor_only_has_nothing_where_both_labels_differ(name, deserved):
    assert shares(score(name, PAIRS)["swaps"]["different in both"]) == deserved


def test_retrieval_finds_the_clip_where_training_has_it_and_somebody_else_where_not():
    assert shares(score("nearest training clip", SAME_PLACE)["swaps"]["all"]) == (1, 1, 1)
    without = floors(CLIPS[[kind[0] != 1 for kind in KINDS]])[2]
    result = swap_test(without, judge, CLIPS, LABELS, pairs=SAME_PLACE)
    assert result["swaps"]["all"]["static"][0] == pytest.approx(2 / 3) and result["swaps"]["all"]["dynamic"][0] == 1


def test_harder_pairs_are_those_whose_first_frames_differ_most_and_no_label_is_shared():
    harder = harder_pairs(CLIPS, LABELS, 12)
    assert set(harder) <= set(OTHER_PLACE) and {a for a, _ in harder} == set(range(12))
    assert all(KINDS[a][0] != KINDS[b][0] and KINDS[a][1] != KINDS[b][1] for a, b in harder)
    swaps = score("pixel residual", SAME_PLACE, harder=harder)["swaps"]
    assert shares(swaps["harder"])[2] == 0 and swaps["harder"]["n"] == 12 and swaps["all"]["n"] == len(SAME_PLACE)
    assert shares(swaps["all"]) == (1, 1, 1), "harder pairs are scored apart"
    assert harder_pairs(CLIPS, {"identity": [0] * 12}, 5) == []
    assert [len(harder_pairs(CLIPS, LABELS, number)) for number in (5, 12, 15)] == [5, 12, 15]


def test_harder_pairs_go_by_first_frames_whatever_comes_after_them():
    clips = torch.zeros(3, 2, 1, 16, 16)
    clips[1, 0], clips[2, 1] = 0.5, 1
    assert (0, 1) in harder_pairs(clips, {"identity": [0, 1, 2]}, 3)


class Perfect:
    """Knows what every clip is."""

    def encode(self, clips):
        places = torch.cdist(clips.flatten(1), CLIPS.flatten(1)).argmin(dim=1)
        return places[:, None].float(), places[:, None, None].float().expand(-1, clips.shape[1], 1)

    def decode(self, static, dynamic):
        donors = zip(static[:, 0].long().tolist(), dynamic[:, 0, 0].long().tolist(), strict=True)
        return torch.stack([draw(KINDS[a][0], KINDS[b][1], KINDS[b][2]) for a, b in donors])


def test_a_perfect_model_is_right_on_harder_pairs_and_for_every_judge():
    other = {"nearest": NearestClipJudge(CLIPS, LABELS)}
    result = swap_test(
        Perfect(), judge, CLIPS, LABELS, pairs=PAIRS, harder=OTHER_PLACE, people=LABELS["identity"], other_judges=other
    )
    assert {name: shares(row) for name, row in result["swaps"].items()} == dict.fromkeys(result["swaps"], (1, 1, 1))
    assert result["swaps"]["harder"]["n"] == len(OTHER_PLACE) and result["swaps"]["different in both"]["n"] == 48
    assert result["follows"]["identity"]["n"] == 96, "harder pairs are scored apart"
    assert result["swaps"]["all"]["joint_over_people"][0] == 1
    judged = result["other_judges"]["nearest"]
    assert shares(judged["real"]) == shares(judged["swaps"]["all"]) == (1, 1, 1) and judged["agreement"][0] == 1


def test_judges_that_disagree_say_so():
    blind = {"blind": lambda clips: judge(clips) | {"action": torch.eye(3)[torch.zeros(len(clips), dtype=int)]}}
    harder = [(a, b) for a, b in PAIRS if KINDS[b][1] == 1]
    result = swap_test(Perfect(), judge, CLIPS, LABELS, pairs=PAIRS, harder=harder, other_judges=blind)
    judged = result["other_judges"]["blind"]
    assert judged["real"]["dynamic"][0] == 0.5 and judged["agreement"][0] == pytest.approx(0.5)


def test_a_floor_is_named_with_the_version_of_its_rule():
    assert {floor.fingerprint() for floor in FLOORS.values()} == {f"{name}, version 1" for name in FLOORS}
