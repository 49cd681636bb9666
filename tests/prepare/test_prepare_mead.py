"""MEAD's layout becomes a set of heads: each clip one steady square, or a reason why it is not there."""

import json
import os
import pickle
from pathlib import Path

import face_crop
import mead as prepare_mead
import numpy as np
import pytest
from datasets import load_from_disk
from face_crop import Face, agreeing, cut, find_faces, look_at
from media import damaged_files, write_video


DATA = Path(os.environ.get("DIVID_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
TOP, LEFT, SIDE = 40, 70, 40  # of the bright square that stands for a face


def video(path: Path, count: int = 7, face: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((count, 120, 160, 3), 20, np.uint8)
    if face:
        frames[:, TOP : TOP + SIDE, LEFT : LEFT + SIDE] = 220
    return write_video(path, frames)


def bright_square(grey: np.ndarray, cascade: str) -> Face | None:
    """In place of the cascades."""
    rows, columns = np.nonzero(grey > 120)
    if not len(rows):
        return None
    return Face(*(np.array([np.mean(columns), np.mean(rows), np.ptp(columns) + 1]) / min(grey.shape)))


@pytest.fixture
def mead(tmp_path, monkeypatch):
    """Two people, two emotions, three clips of each."""
    monkeypatch.setattr(face_crop, "largest_face", bright_square)
    for person in ("M003", "W009"):
        for emotion in ("angry", "happy"):
            for take in (1, 2, 3):
                video(tmp_path / "MEAD" / person / "video" / "front" / emotion / f"level_{take}" / "001.mp4")
    return tmp_path / "MEAD"


def plan(root, *flags):
    args = prepare_mead.parse_args([f"--input={root}", f"--output_dir={root.parent / 'set'}", "--size=36", *flags])
    return prepare_mead.make_plan(args)


def prepare(root, *flags):
    target = root.parent / "set"
    prepare_mead.main([f"--input={root}", f"--output_dir={target}", "--size=36", "--num_workers=1", *flags])
    sets = load_from_disk(target)
    rows = {row["clip_id"]: row for split in sets.values() for row in split}
    return sets, rows, json.loads((target / "preparation.json").read_text())["skipped"]


def test_a_head_is_cut_out_where_it_is(mead):
    sets, rows, skipped = prepare(mead)
    assert len(rows) == 12 and not skipped
    row = rows["W009_front_happy_level_2_001"]
    features = sets["train"].features
    assert [features[name].int2str(row[name]) for name in ("identity", "action", "level")] == ["W009", "happy", "2"]
    assert row["source"] == "W009/video/front/happy/level_2/001.mp4"
    clip = np.array(row["frames"], np.uint8)
    assert clip.shape == (7, 36, 36, 3)
    # A square of 1.8 x 40 = 72 pixels becomes 36: the face is 20 of them, in the middle and 2 lower.
    for frame in clip:
        found, columns = np.nonzero(frame[..., 1] > 120)
        assert (found.min(), found.max(), columns.min(), columns.max()) == (10, 29, 8, 27)


def test_the_reader_can_be_sent_to_other_processes(mead):
    assert pickle.loads(pickle.dumps(plan(mead).read)).keywords == {"root": mead, "size": 36}


def test_the_split_is_by_clip_and_the_same_every_time(mead):
    tests = [{clip.clip_id for clip in plan(mead, "--num_test=4").clips if clip.split == "test"} for _ in range(2)]
    assert tests[0] == tests[1] and len(tests[0]) == 4
    splits = [clip.split for clip in plan(mead).clips]
    assert splits.count("test") == splits.count("validation") == 2  # a tenth, but two at least
    assert {clip.labels["identity"] for clip in plan(mead).clips if clip.split == "train"} == {"M003", "W009"}
    assert "RandomState(0)" in plan(mead).split_rule


def test_every_person_must_be_seen_in_training(mead):
    with pytest.raises(SystemExit, match="All clips of .* fell to test.*smaller --num_test"):
        plan(mead, "--num_test=11")


def test_people_and_emotions_can_be_chosen(mead):
    chosen = plan(mead, "--subjects", "W009", "--emotions", "happy")
    assert chosen.labels == {"identity": ["W009"], "action": ["happy"], "level": ["1", "2", "3"]}
    assert len(chosen.clips) == 3
    with pytest.raises(SystemExit, match="no person's folder in .* named M099: there are M003, W009"):
        plan(mead, "--subjects", "M099")
    with pytest.raises(SystemExit, match="no emotion in .* named anger: there are angry, happy"):
        plan(mead, "--emotions", "anger")


def test_a_person_without_clips_is_named(mead):
    (mead / "M011").mkdir()
    (mead / "M011" / "video.tar").touch()
    (mead / "M012" / "video" / "left_30").mkdir(parents=True)
    (mead / "notes.txt").touch()
    skipped = plan(mead).skipped
    assert set(skipped) == {"M011", "M012"} and "tar -xf video.tar" in skipped["M011"]
    assert skipped["M012"] == "M012/video has no view 'front', but left_30: check --view"
    with pytest.raises(SystemExit, match="not a single clip to prepare:\n.*M003/video has no view 'top', but front"):
        plan(mead, "--view=top")


def test_videos_that_lie_elsewhere_are_named(mead):
    video(mead / "M003/video/front/angry/999.mp4")
    video(mead / "M003/video/front/angry/level_1/002.avi")
    (mead / "M003/video/front/angry/level_1/@eaDir/001.mp4").mkdir(parents=True)
    video(mead / "M003/video/front/angry/level_1/@eaDir/001.mp4/thumb.mp4")
    (mead / "M003/video/front/angry/level_1/notes.txt").touch()
    skipped = plan(mead).skipped
    assert set(skipped) == {"M003/video/front/angry/999.mp4", "M003/video/front/angry/level_1/002.avi"}
    assert set(skipped.values()) == {"does not lie as M003/video/front/angry/level_1/001.mp4"}


def test_another_layout_is_refused_with_the_one_expected(mead, tmp_path):
    with pytest.raises(SystemExit, match="There is no folder .*nowhere: check --input"):
        plan(tmp_path / "nowhere")
    with pytest.raises(SystemExit, match="no person's folder: .* M003/video/front/angry/level_1/001.mp4"):
        plan(mead / "M003")


def test_an_unreadable_folder_is_named(mead, monkeypatch):
    listing = Path.iterdir

    def locked(self):
        if self.name == "happy":
            raise PermissionError(13, "Permission denied", str(self))
        return listing(self)

    monkeypatch.setattr(Path, "iterdir", locked)
    with pytest.raises(SystemExit, match="Cannot read the folder .*M003/video/front/happy .Permission denied."):
        plan(mead)


def test_a_clip_without_a_face_is_skipped_never_taken_whole(mead):
    video(mead / "M003/video/front/angry/level_1/002.mp4", face=False)
    _, rows, skipped = prepare(mead)
    assert len(rows) == 12
    name = "'M003/video/front/angry/level_1/002.mp4'"
    reason = f"{name}: no face found in any of the 7 frames looked at, of 7"
    assert skipped == {"M003_front_angry_level_1_002": reason}


def test_a_face_seen_too_seldom_is_not_trusted(mead, monkeypatch):
    path = mead / "M003/video/front/angry/level_1/001.mp4"
    monkeypatch.setattr(face_crop, "find_faces", lambda greys: [Face(0.5, 0.5, 0.3)])
    with pytest.raises(ValueError, match="it: a face found in only 1 of the 7 frames looked at, of 7"):
        face_crop.crop_head(path, "it", 36)


def test_damaged_clips_are_skipped_and_the_rest_goes_on(mead):
    folder = mead / "M003/video/front/angry/level_1"
    damaged = damaged_files((folder / "001.mp4").read_bytes())
    for name, content in damaged.items():
        (folder / f"{name}.mp4").write_bytes(content)
    _, rows, skipped = prepare(mead)
    assert len(rows) == 12 and set(skipped) == {f"M003_front_angry_level_1_{name}" for name in damaged}
    assert "is an empty file" in skipped["M003_front_angry_level_1_empty"]
    assert "is cut short: copy or download it again" in skipped["M003_front_angry_level_1_cut"]
    assert all(f"'M003/video/front/angry/level_1/{name}.mp4'" in " ".join(skipped.values()) for name in damaged)


def test_names_may_hold_spaces_and_any_letters(mead):
    video(mead / "Zoë Müller" / "video" / "front" / "très heureux" / "level_1" / "clip 1 – 喜び.mp4")
    sets, rows, skipped = prepare(mead)
    row = rows["Zoë Müller_front_très heureux_level_1_clip 1 – 喜び"]
    assert not skipped and sets["train"].features["action"].int2str(row["action"]) == "très heureux"


def test_frames_of_another_size_are_refused(mead, monkeypatch):
    monkeypatch.setattr(face_crop, "open_source", lambda *_: iter([np.zeros((9, 9, 3)), np.zeros((9, 8, 3))]))
    with pytest.raises(ValueError, match="it changes its size from 9x9 to 8x9"):
        list(face_crop.read_frames(mead, "it"))


def test_the_box_stays_where_most_detections_are():
    steady = [Face(0.50 + d, 0.40 - d, 0.30 + d) for d in (-0.02, -0.01, 0, 0.01, 0.02)]
    elsewhere, tiny, huge = Face(0.9, 0.9, 0.3), Face(0.5, 0.4, 0.1), Face(0.5, 0.4, 0.8)
    assert agreeing([elsewhere, *steady, tiny, huge]) == steady
    assert agreeing([]) == []
    assert agreeing([Face(0.1, 0.1, 0.1), Face(0.9, 0.9, 0.1)]) == []  # whichever of the two it is


@pytest.mark.parametrize(
    ("face", "left", "top", "side"),
    [
        (Face(0.5, 0.5, 0.2), 32, 30, 36),  # in the middle: 1.8 x 20 = 36, 2 higher than the face
        (Face(0.1, 0.1, 0.2), 0, 0, 36),  # shifted from the left and upper border
        (Face(1.55, 0.95, 0.2), 124, 64, 36),  # and from the right and lower one
        (Face(0.8, 0.5, 0.7), 30, 0, 100),  # larger than the frame: as large as the frame, around the face
    ],
)
def test_the_square_stays_in_the_frame(face, left, top, side):
    rows, columns = np.mgrid[:100, :160]
    piece = cut(np.dstack([rows, columns]), face)
    assert piece.shape[:2] == (side, side) and tuple(piece[0, 0]) == (top, left)


@pytest.mark.parametrize("count", [1, 7, 15, 16, 100, 1000])
def test_a_few_frames_are_looked_at_evenly_spaced(count):
    greys, seen = look_at(np.full((8, 8, 3), i % 251, np.uint8) for i in range(count))
    assert seen == count and min(count, 8) <= len(greys) <= 15
    steps = {(int(b[0, 0]) - int(a[0, 0])) % 251 for a, b in zip(greys, greys[1:])}
    assert len(steps) <= 1 and greys[0][0, 0] == 0


def test_large_frames_are_looked_at_in_small():
    greys, _ = look_at([np.zeros((1080, 1920, 3), np.uint8)])
    assert greys[0].shape == (360, 640)


def test_the_second_cascade_is_asked_where_the_first_sees_little(monkeypatch):
    seen, asked = {"default": 2, "alt2": 4}, []

    def see(grey, cascade):
        asked.append(cascade)
        return Face(0.5, 0.5, 0.3) if asked.count(cascade) <= seen[cascade] else None

    monkeypatch.setattr(face_crop, "largest_face", see)
    assert len(find_faces([np.zeros((4, 4))] * 6)) == 4
    asked.clear()
    seen["default"] = 3
    assert len(find_faces([np.zeros((4, 4))] * 6)) == 3 and set(asked) == {"default"}


def test_an_opencv_without_cascades_is_refused_at_once(mead, monkeypatch):
    face_crop.load_cascade.cache_clear()
    monkeypatch.delattr(face_crop.cv2, "CascadeClassifier")
    with pytest.raises(
        SystemExit, match="OpenCV 4.* has no haarcascade_frontalface_default.xml.*'opencv-python-headless<5'"
    ):
        prepare(mead)
    monkeypatch.setattr(face_crop, "cv2", None)
    with pytest.raises(SystemExit, match="Without OpenCV, this Python has no haarcascade.*pip install"):
        prepare(mead)


@pytest.mark.skipif(not (DATA / "mead_layout").is_dir(), reason=f"no {DATA / 'mead_layout'}; set DIVID_TEST_DATA")
@pytest.mark.parametrize("source", ["M007/*/neutral", "M012/*/happy", "W009/*/sad", "W018/*/surprised"])
def test_real_heads_are_whole(source):
    path = next((DATA / "mead_layout").glob(source.replace("*", "video/front") + "/level_*/001.mp4"))
    for frame in face_crop.crop_head(path, str(path), 64).astype(int):
        head = np.abs(frame - frame[0, 0]).max(-1) > 24  # the background has one colour
        assert head[:32].mean() > 0.2 and head[32, 32]
        assert not head[0].any() and not head[:32, 0].any() and not head[:32, -1].any()
