"""The true clip of two rendered people is that person with that motion; of a clip with itself it is that clip."""

import numpy as np
import people as script
import pytest
import torch
from preparation import prepare

from divid_diffusers.data import people
from divid_diffusers.data.prepared import load_clips
from divid_diffusers.evaluation import people_truth
from divid_diffusers.evaluation.people_truth import PeopleTruth
from divid_diffusers.evaluation.true_swap import score_true_swaps, true_clips


FRAMES = 4


def drawn_simply(person, trajectory, size):
    """A stand-in for the renderer: a wall of the person's, and two bars that move with the head and the face."""
    frames = np.empty((len(trajectory.head), size, size, 3), np.uint8)
    frames[:] = np.array(person.background) * 255
    frames[:, :4] = (128 + 200 * trajectory.head @ [[1], [2], [3]]).clip(0, 255)[:, None, None]
    frames[:, 4:8] = (20 * trajectory.actions.sum(1)).clip(0, 255)[:, None, None, None]
    return frames


@pytest.fixture
def clips(monkeypatch, tmp_path):
    monkeypatch.setattr(people, "renderer", lambda size: None)
    monkeypatch.setattr(people, "render_trajectory", drawn_simply)
    monkeypatch.setattr(people_truth, "render_trajectory", drawn_simply)
    monkeypatch.setattr(script, "version", lambda name: "0.6.2")
    args = script.parse_args(["--output_dir", str(tmp_path / "set"), "--num_people", "8", "--size", "16"])
    prepare(script.make_plan(args), args.output_dir)
    return load_clips(str(args.output_dir), "test")


def test_the_true_clip_of_a_clip_is_its_own_and_of_a_pair_is_rendered(clips):
    truth = true_clips(clips, FRAMES)
    assert isinstance(truth, PeopleTruth)
    first = clips[0]
    second = next(clip for clip in clips if clip["identity"] != first["identity"])
    number, _, _, _ = people.of_clip_name(first["clip_id"])
    _, expression, level, seed = people.of_clip_name(second["clip_id"])
    whole = people.render(people.Person.sample(number), expression, level, seed, size=16)
    swapped = torch.from_numpy(whole[[0, 5, 9, 14]]).permute(0, 3, 1, 2) / 255
    assert torch.equal(truth(first, second), swapped)
    assert not torch.equal(truth(first, second), truth(second, first))


def test_a_perfect_swap_gets_full_marks_and_few_others_are_rendered(clips):
    truth = true_clips(clips, FRAMES)
    static, dynamic = [clips[0], clips[1], clips[2]], [clips[5], clips[6], clips[7]]
    swaps = torch.stack([truth(a, b) for a, b in zip(static, dynamic)])
    scores = score_true_swaps(swaps, static, dynamic, truth)["swaps"]
    assert scores["psnr"][0] == 100 and scores["identity_kept"][0] == 1 and scores["motion_kept"][0] == 1
    others = truth.other_motions(clips[0])
    assert len(others) == truth.most_others
    assert clips[0]["action"] not in {motion["action"] for motion in others}


def test_a_set_that_is_drawn_otherwise_now_is_refused(clips, monkeypatch):
    monkeypatch.setattr(people_truth, "render_trajectory", lambda *args: 255 - drawn_simply(*args))
    with pytest.raises(ValueError, match="is not what would be drawn now"):
        true_clips(clips, FRAMES)
