"""
The true clip of a pair is the set's own clip where there is one, and swaps get the scores they deserve against it.
"""

import io
import json
import zipfile
from math import nan
from pathlib import Path

import mhad
import numpy as np
import pytest
import torch
from preparation import Clip, Plan, prepare
from scipy.io import savemat
from scipy.stats import t

from divid_diffusers.data import people_body
from divid_diffusers.data.mhad_skeleton import read_skeleton, render_skeleton
from divid_diffusers.data.prepared import PreparedClips, load_clips
from divid_diffusers.data.puppets import MOTIONS, Appearance, Puppets, render
from divid_diffusers.data.sampling import evenly_spaced
from divid_diffusers.evaluation import true_swap
from divid_diffusers.evaluation.reconstruction import perceptual_distance
from divid_diffusers.evaluation.true_swap import (
    BodyTruth,
    SkeletonTruth,
    SpritesTruth,
    score_true_swaps,
    true_clips,
)


FRAMES = 4
COPIES = {"static": "copy of the static donor", "dynamic": "copy of the dynamic donor"}


def write_recordings(folder: Path) -> Path:
    """Three actions by two performers, the second of them without a first trial of action 2."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pose = rng.normal(size=(20, 3, 1)) * 0.2 + np.linspace(1, -1, 20)[:, None, None] * [[[0], [1], [0]]]
    for name in ("a1_s1_t1", "a1_s1_t2", "a2_s1_t1", "a3_s1_t1", "a1_s2_t1", "a2_s2_t2", "a2_s2_t3", "a3_s2_t1"):
        drift = rng.normal(size=(20, 3, 1)) * np.linspace(0, 0.4, 7 + len(name) + int(name[-1]))
        content = io.BytesIO()
        savemat(content, {"d_skel": pose + drift})
        (folder / f"{name}_skeleton.mat").write_bytes(content.getvalue())
    return folder


def zipped(folder: Path, path: Path, leave_out: str = "nothing") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            if leave_out not in file.name:
                archive.writestr(f"Skeleton/{file.name}", file.read_bytes())
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("mhad") / "recordings")


@pytest.fixture(scope="module")
def skeletons(recordings, tmp_path_factory):
    target = tmp_path_factory.mktemp("skeletons") / "set"
    flags = ["--size=24", "--num_people=12", "--num_test=5", "--num_workers=1"]
    mhad.main(["--modality=skeleton", f"--input={recordings}", f"--output_dir={target}", *flags])
    return load_clips(str(target), "test")


def draw_sprite(clip: Clip) -> np.ndarray:
    """A lighter square on the character's grey, that the action moves: down, right or both."""
    grey = 40 * int(clip.labels["identity"])
    frames = np.full((6, 16, 16, 3), grey, np.uint8)
    step = {"down": (1, 0), "right": (0, 1), "both": (1, 1)}[clip.labels["action"]]
    for i in range(6):
        y, x = 2 + step[0] * i, 2 + step[1] * i
        frames[i, y : y + 6, x : x + 6] = grey + 100
    return frames


def sprites_set(target: Path, pairs) -> PreparedClips:
    """Clips of (character, action) pairs, prepared as prepare/sprites.py does."""
    parts = ("body", "bottom", "top", "hair")
    names = {"identity": ["0", "1", "2", "3"], "action": ["down", "right", "both"]} | {part: ["0"] for part in parts}
    clips = [
        Clip(f"{i}_{person}_{action}", "-", "test", {"identity": person, "action": action} | dict.fromkeys(parts, "0"))
        for i, (person, action) in enumerate(pairs)
    ]
    prepare(Plan(clips, draw_sprite, (16, 16, 3), names, "all test"), target)
    return load_clips(str(target), "test")


EVERY_PAIR = [(person, action) for person in "0123" for action in ("down", "right", "both")]


@pytest.fixture(scope="module")
def sprites(tmp_path_factory):
    return sprites_set(tmp_path_factory.mktemp("sprites") / "set", EVERY_PAIR)


@pytest.fixture(scope="module")
def sets(recordings, skeletons, sprites):
    """For each set its clips and its truth."""
    puppets = Puppets(5, num_frames=9, size=24, split="test")
    late = Puppets(5, num_frames=9, size=24, split="test", start=5)
    varied = Puppets(5, num_frames=9, size=24, split="test", varied_camera=True)
    made = {
        "puppets": (puppets, None),
        "puppets-mid": (late, None),
        "puppets-varied": (varied, None),
        "skeletons": (skeletons, recordings),
        "sprites": (sprites, None),
    }
    return {name: (list(clips), true_clips(clips, FRAMES, files)) for name, (clips, files) in made.items()}


@pytest.fixture(params=["puppets", "puppets-mid", "puppets-varied", "skeletons", "sprites"])
def one_set(request, sets):
    clips, truth = sets[request.param]
    return clips, clips[2:] + clips[:2], truth


def true_swaps(truth, static, dynamic):
    return torch.stack(list(map(truth, static, dynamic)))


def test_the_truth_of_a_clip_and_itself_is_the_clip(one_set):
    clips, _, truth = one_set
    assert torch.equal(true_swaps(truth, clips, clips), evenly_spaced(clips, FRAMES) / 255)


def test_a_perfect_model_is_perfect(one_set):
    static, dynamic, truth = one_set
    scores = score_true_swaps(true_swaps(truth, static, dynamic), static, dynamic, truth, features=lambda x: [x])
    row = scores["swaps"]
    assert row["n"] == len(static)
    assert row["psnr"] == pytest.approx([100, 0]) and row["ssim"] == pytest.approx([1, 0], abs=1e-5)
    assert row["motion_error"] == [0, 0] and row["perceptual_distance"] == pytest.approx([0, 0], abs=1e-9)
    assert row["identity_kept"][0] == row["motion_kept"][0] == 1
    assert row["identity_kept"][1:] == row["motion_kept"][1:] and 0.5 < row["identity_kept"][1] < 1
    json.dumps(scores, allow_nan=False)


def test_copies_stand_beside_the_swaps_as_a_model_that_copies_would_score(one_set):
    static, dynamic, truth = one_set
    swaps = true_swaps(truth, static, dynamic)
    beside = score_true_swaps(swaps, static, dynamic, truth)
    for donors, name in ((static, COPIES["static"]), (dynamic, COPIES["dynamic"])):
        copied = score_true_swaps(evenly_spaced(donors, FRAMES) / 255, static, dynamic, truth)
        assert copied["swaps"] == copied[name] == beside[name]
        assert copied["swaps"]["psnr"][0] < 60


def test_copying_either_donor_keeps_one_factor_only(sprites):
    static = [sprites[i] for i in range(12)]
    dynamic = [sprites[(i + 4) % 12] for i in range(12)]  # the next character, the next action
    truth = true_clips(sprites, FRAMES)
    scores = score_true_swaps(true_swaps(truth, static, dynamic), static, dynamic, truth)
    row = scores[COPIES["dynamic"]]
    assert row["identity_kept"][0] == 0 and row["motion_kept"][0] == 1
    row = scores[COPIES["static"]]
    assert row["identity_kept"][0] == 1 and row["motion_kept"][0] == 0


@pytest.mark.parametrize("name", ["puppets", "skeletons"])
def test_a_copy_of_the_static_donor_keeps_who_and_of_the_dynamic_donor_does_not(sets, name):
    clips, truth = sets[name]
    static, dynamic = clips, clips[2:] + clips[:2]
    scores = score_true_swaps(true_swaps(truth, static, dynamic), static, dynamic, truth)
    same_person = sum(s["identity"] == d["identity"] for s, d in zip(static, dynamic)) / len(clips)
    assert scores[COPIES["static"]]["identity_kept"][0] > 0.7
    assert scores[COPIES["dynamic"]]["identity_kept"][0] <= same_person < 0.5


def test_a_copy_of_the_static_donor_is_seen_to_be_one_and_the_truth_is_not(sets):
    clips, truth = sets["puppets-mid"]
    static = clips[1:] + clips[:1]
    scores = score_true_swaps(true_swaps(truth, static, clips), static, clips, truth)
    assert scores["swaps"]["static_donor_shown"][0] == 0
    assert scores["copy of the static donor"]["static_donor_shown"][0] == 1
    same = score_true_swaps(true_swaps(truth, clips, clips), clips, clips, truth)
    assert same["swaps"]["static_donor_shown"] is None


def test_a_motionless_person_scores_no_motion(sets):
    clips, truth = sets["puppets"]
    swaps = true_swaps(truth, clips, clips[2:] + clips[:2])
    row = score_true_swaps(swaps[:, :1].expand_as(swaps), clips, clips[2:] + clips[:2], truth)["swaps"]
    assert row["motion_error"] == pytest.approx([1, 0], abs=1e-6) and row["identity_kept"][0] > 0.8


def test_intervals_are_of_the_swaps_and_a_distance_is_the_one_given(sets):
    clips, truth = sets["sprites"]
    swaps = true_swaps(truth, clips, clips)
    swaps = swaps + torch.tensor([0.1, 0.01]).repeat(6)[:, None, None, None, None]  # 20 and 40 dB

    def features(frames):
        return [frames, frames[..., ::2, ::2]]

    row = score_true_swaps(swaps, clips, clips, truth, features)["swaps"]
    assert row["psnr"] == pytest.approx([30, t.ppf(0.975, 11) * 10 * (12 / 11) ** 0.5 / 12**0.5], abs=1e-3)
    distance = perceptual_distance(true_swaps(truth, clips, clips), swaps, features).mean().item()
    assert distance > 0 and row["perceptual_distance"][0] == pytest.approx(distance)


def test_what_cannot_be_told_is_none(sets):
    clips, truth = sets["puppets"]
    scores = score_true_swaps(truth(clips[0], clips[1])[None], clips[:1], clips[1:2], truth)
    assert scores["swaps"]["identity_kept"] is None and scores["swaps"]["motion_kept"][0] == 1
    assert scores["swaps"]["psnr"] == [pytest.approx(100), None]
    json.dumps(scores, allow_nan=False)


def test_puppets_are_rendered(sets):
    clips, truth = sets["puppets"]
    a, b = clips[:2]
    drawn = render(Appearance.sample(a["identity"]), MOTIONS[b["action"]], b["motion_seed"], 9, 24)
    assert torch.equal(truth(a, b), torch.from_numpy(drawn[[0, 3, 5, 8]]).permute(0, 3, 1, 2) / 255)
    others = truth.other_motions(b)
    assert sorted([b["action"], *(other["action"] for other in others)]) == list(range(len(MOTIONS)))
    assert all(other["motion_seed"] == b["motion_seed"] for other in others)


@pytest.mark.parametrize("packed", [True, False])
def test_skeletons_are_drawn_on_the_other_person(recordings, skeletons, tmp_path, packed):
    source = zipped(recordings, tmp_path / "Skeleton.zip") if packed else recordings
    truth = true_clips(skeletons, FRAMES, str(source))
    a, b = skeletons[0], next(clip for clip in skeletons if clip["identity"] != skeletons[0]["identity"])
    file = f"{b['clip_id']}_skeleton.mat"
    whole = render_skeleton(
        read_skeleton((recordings / file).read_bytes(), file), Appearance.sample(a["identity"]), 24
    )
    expected = evenly_spaced([{"frames": torch.from_numpy(whole).permute(0, 3, 1, 2)}], FRAMES)[0] / 255
    assert torch.equal(truth(a, b), expected)
    assert not torch.equal(truth(a, b), truth(b, b))


def test_other_motions_of_a_skeleton_are_the_performer_s_first_recordings(recordings, skeletons):
    truth = SkeletonTruth(skeletons, recordings, FRAMES)
    others = truth.other_motions({"performer": 1, "action": 2, "clip_id": "a3_s2_t1"})
    assert others == [{"action": 0, "clip_id": "a1_s2_t1"}, {"action": 1, "clip_id": "a2_s2_t2"}]
    assert [o["clip_id"] for o in truth.other_motions({"performer": 0, "action": 1})] == ["a1_s1_t1", "a3_s1_t1"]


def test_sprites_are_looked_up(sets):
    clips, truth = sets["sprites"]
    for a, b in ((0, 7), (11, 0)):
        expected = next(c for c in clips if (c["identity"], c["action"]) == (clips[a]["identity"], clips[b]["action"]))
        assert torch.equal(truth(clips[a], clips[b]), evenly_spaced([expected], FRAMES)[0] / 255)
    assert [other["action"] for other in truth.other_motions({"action": 1})] == [0, 2]


def test_donors_of_another_split_have_no_true_clip(sprites, recordings, skeletons):
    with pytest.raises(ValueError, match="no clip of character 9 performing action 0 in this split"):
        SpritesTruth(sprites, FRAMES)({"identity": 9}, {"action": 0})
    with pytest.raises(ValueError, match="no recording a9_s9_t1_skeleton.mat: both donors"):
        SkeletonTruth(skeletons, recordings, FRAMES)(skeletons[0], {"clip_id": "a9_s9_t1"})


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([*EVERY_PAIR, ("2", "right")], "Character 2 performs right in 2 clips"),
        (EVERY_PAIR[:-1], "Character 3 performs both in 0 clips"),
    ],
)
def test_a_character_performs_every_action_once_or_nothing_is_true(tmp_path, pairs, says):
    with pytest.raises(ValueError, match=says):
        true_clips(sprites_set(tmp_path / "set", pairs), FRAMES)


def test_a_set_of_real_clips_has_no_truth(tmp_path):
    clips = [Clip(action, "-", "test", {"identity": "0", "action": action}) for action in ("down", "both")]
    prepare(
        Plan(clips, draw_sprite, (16, 16, 3), {"identity": ["0"], "action": ["down", "both"]}, "-"), tmp_path / "set"
    )
    with pytest.raises(ValueError, match="Puppets, skeletons of UTD-MHAD .*, Sprites .* and rendered people .* can"):
        true_clips(load_clips(str(tmp_path / "set"), "test"), FRAMES)


def test_recordings_that_do_not_fit_are_refused_before_anything_is_decoded(recordings, skeletons, tmp_path):
    with pytest.raises(ValueError, match="drawn from Skeleton.zip: say where it is"):
        true_clips(skeletons, FRAMES)
    with pytest.raises(ValueError, match="nowhere.zip is neither a folder nor a zip"):
        true_clips(skeletons, FRAMES, "nowhere.zip")
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(ValueError, match="text.zip is neither a folder nor a zip that can be read"):
        true_clips(skeletons, FRAMES, tmp_path / "text.zip")
    clip_id = skeletons[1]["clip_id"]
    partial = zipped(recordings, tmp_path / "partial.zip", leave_out=clip_id)
    with pytest.raises(ValueError, match=f"partial.zip lacks 1 recordings of the set, {clip_id}_skeleton.mat"):
        true_clips(skeletons, FRAMES, partial)

    changed = tmp_path / "changed"
    changed.mkdir()
    files = sorted(recordings.iterdir())
    for file, content in zip(files, [files[-1], *files[:-1]]):
        (changed / file.name).write_bytes(content.read_bytes())
    with pytest.raises(ValueError, match="is not what would be drawn now: it was prepared from other recordings"):
        true_clips(skeletons, FRAMES, changed)


def test_a_damaged_recording_matters_where_the_set_has_it(recordings, skeletons, tmp_path):
    def damaged(name: str) -> Path:
        path = zipped(recordings, tmp_path / f"{name}.zip")
        content = bytearray(path.read_bytes())
        content[content.index(f"{name}_skeleton.mat".encode()) + 400] ^= 255
        path.write_bytes(content)
        return path

    of_the_set, other = skeletons[0]["clip_id"], "a2_s2_t2"
    with pytest.raises(ValueError, match=f"{of_the_set}_skeleton.mat cannot be read in .*{of_the_set}.zip"):
        true_clips(skeletons, FRAMES, damaged(of_the_set))
    without = PreparedClips(skeletons.dataset.filter(lambda clip_id: clip_id != other, input_columns="clip_id"))
    truth = true_clips(without, FRAMES, damaged(other))
    assert [o["clip_id"] for o in truth.other_motions({"performer": 1, "action": 2})] == ["a1_s2_t1", "a2_s2_t3"]


def test_swaps_that_do_not_fit_are_refused(sets):
    clips, truth = sets["puppets"]
    swaps = true_swaps(truth, clips, clips)
    with pytest.raises(ValueError, match="4 static and 5 dynamic donors for 5 swaps"):
        score_true_swaps(swaps, clips[:4], clips, truth)
    with pytest.raises(ValueError, match="at least one swap"):
        score_true_swaps(swaps[:0], [], [], truth)
    for other in (swaps[:, :2], swaps[:, :, :1], swaps[..., :20]):
        with pytest.raises(ValueError, match=r"A swap is .*, its true clip \(4, 3, 24, 24\)"):
            score_true_swaps(other, clips, clips, truth)
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        score_true_swaps(swaps * nan, clips, clips, truth)


def body_simply(skeleton, person, size, shown=None):
    """A stand-in for the renderer: the puppet of a number that the person gives."""
    frames = render_skeleton(skeleton, Appearance.sample(int(person.volume * 1e6)), size)
    return frames if shown is None else frames[shown]


def test_recordings_by_rendered_people_have_truths_of_their_own(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(people_body, "body_renderer", lambda size: None)
    monkeypatch.setattr(people_body, "render_body", body_simply)
    monkeypatch.setattr(true_swap, "render_body", body_simply)
    monkeypatch.setattr(mhad, "version", lambda name: "0.6.2")
    flags = ["--size=24", "--num_people=12", "--num_test=5", "--num_workers=1"]
    mhad.main(["--modality=people", f"--input={recordings}", f"--output_dir={tmp_path / 'set'}", *flags])
    clips = load_clips(str(tmp_path / "set"), "test")
    assert {"identity", "skin", "hair", "performer", "action"} == set(clips.labels)
    truth = true_clips(clips, FRAMES, recordings)
    assert isinstance(truth, BodyTruth)
    static, dynamic = list(clips), [*list(clips)[2:], *list(clips)[:2]]
    row = score_true_swaps(true_swaps(truth, static, dynamic), static, dynamic, truth)["swaps"]
    assert row["psnr"][0] == 100 and row["identity_kept"][0] == row["motion_kept"][0] == 1
    assert len(truth.other_motions(clips[0])) <= truth.most_others
    donors = {clip["action"]: clip for clip in clips if clip["performer"] == clips[0]["performer"]}
    actions = sorted(donors)
    truth.most_others = 1
    nexts = [truth.other_motions(donors[action])[0]["action"] for action in actions]
    assert nexts == [*actions[1:], actions[0]]  # not the performer's first for all


@pytest.mark.parametrize("error", [ImportError("Rendered people need anny."), OSError("OpenGL could not be started.")])
def test_what_rendered_people_lack_is_said_before_the_work(recordings, tmp_path, monkeypatch, error):
    def missing(size):
        raise error

    monkeypatch.setattr(people_body, "body_renderer", missing)
    with pytest.raises(SystemExit, match=str(error)):
        mhad.main(["--modality=people", f"--input={recordings}", f"--output_dir={tmp_path / 'set'}", "--num_test=2"])
    assert not any(tmp_path.iterdir())
