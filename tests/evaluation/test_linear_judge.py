import pytest
import torch

from divid_diffusers.data.puppets import MOTIONS, Puppets
from divid_diffusers.evaluation.linear_judge import LinearJudge


pytest.importorskip("sklearn", reason="the linear judge is an extra")


def test_it_tells_identity_from_looks_and_action_from_motion():
    clips = [Puppets(400, num_appearances=4, num_frames=6, size=32)[i] for i in range(400)]
    few = MOTIONS[:4]
    clips = [clip for clip in clips if MOTIONS[clip["action"]] in few]
    frames = torch.stack([clip["frames"] for clip in clips]) / 255
    identities, actions = [clip["identity"] for clip in clips], [clip["action"] for clip in clips]
    half = len(clips) // 2

    judge = LinearJudge(frames[:half], identities[:half], actions[:half])
    told_identity, told_action = judge.predict(frames[half:])
    assert told_identity == identities[half:]
    agree = sum(told == true for told, true in zip(told_action, actions[half:])) / (len(clips) - half)
    assert agree > 0.6  # chance is 0.25

    still = frames[half:, :1].expand_as(frames[half:])
    told_identity, told_action = judge.predict(still)
    assert told_identity == identities[half:] and len(set(told_action)) == 1
