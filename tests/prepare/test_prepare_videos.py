"""Anybody's folder: labels from folders, from metadata or none; whatever is wrong with a file is said, and the rest goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import videos
from datasets import load_from_disk
from media import damaged_files, number_of, numbered_frames, write_video
from PIL import Image


def prepare(source, target, *flags, workers=1):
    videos.main([f"--input={source}", f"--output_dir={target}", f"--num_workers={workers}", "--size=16", *flags])
    sets = load_from_disk(target)
    rows = {row["clip_id"]: row for split in sets.values() for row in split}
    return sets, rows, json.loads((Path(target) / "preparation.json").read_text())


def pixels(row):
    return np.array(row["frames"], np.uint8)


@pytest.fixture
def folder(tmp_path):
    """ann and bob, walking and running, two clips each."""
    for who in ("ann", "bob"):
        for what in ("walk", "run"):
            place = tmp_path / "videos" / who / what
            place.mkdir(parents=True)
            for take in (1, 2):
                write_video(place / f"{take}.mp4", numbered_frames(6 + take))
    return tmp_path / "videos"


def test_labels_come_from_the_names_of_the_folders(folder, tmp_path):
    sets, rows, _ = prepare(folder, tmp_path / "set", "--labels", "identity", "action")
    assert (len(sets["train"]), len(sets["test"])) == (7, 1)
    features = sets["train"].features
    assert (features["identity"].names, features["action"].names) == (["ann", "bob"], ["run", "walk"])
    row = rows["bob/walk/2.mp4"]
    assert (row["identity"], row["action"], row["source"]) == (1, 1, "bob/walk/2.mp4")
    assert pixels(row).shape == (8, 16, 16, 3)
    assert [number_of(frame) for frame in pixels(row)] == list(range(8))


def test_a_folder_without_labels_is_a_set_without_labels(folder, tmp_path):
    sets, rows, report = prepare(folder, tmp_path / "set")
    assert set(sets["train"].features) == {"frames", "clip_id", "source"} and len(rows) == 8 and not report["skipped"]


def test_the_split_is_a_function_of_the_seed(folder, tmp_path):
    tests = [
        set(prepare(folder, tmp_path / name, "--test_fraction=0.5", f"--seed={seed}")[0]["test"]["clip_id"])
        for name, seed in (("a", 0), ("b", 0), ("c", 2))
    ]
    assert tests[0] == tests[1] != tests[2] and len(tests[0]) == 4


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_labels_come_from_metadata_where_there_is_some(folder, tmp_path, name):
    listed = [
        ("ann/walk/1.mp4", "Ann", "x"),
        ("bob/run/1.mp4", "Bob", "y"),
        ("bob/run/2.mp4", "Bob", ""),
        ("gone.mp4", "C", "z"),
    ]
    rows = [{"file_name": file, "identity": who, "action": what} for file, who, what in listed]
    if name.endswith("csv"):
        lines = ["file_name,identity,action", *(",".join(row.values()) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    sets, kept, report = prepare(folder, tmp_path / "set", "--labels", "identity", "action", "--test_fraction=0.5")
    assert set(kept) == {"ann/walk/1.mp4", "bob/run/1.mp4"}
    assert sets["train"].features["action"].names == ["x", "y"]
    assert report["skipped"]["bob/run/2.mp4"] == f"has no action in {name}"
    assert report["skipped"]["ann/run/1.mp4"] == f"is not listed in {name}"
    assert report["skipped"]["gone.mp4"] == f"is listed in {name} but not there"


def test_a_clip_at_another_depth_is_skipped_not_mislabelled(folder, tmp_path):
    write_video(folder / "stray.mp4", numbered_frames(3))
    _, rows, report = prepare(folder, tmp_path / "set", "--labels", "identity", "action")
    assert len(rows) == 8 and report["skipped"]["stray.mp4"].startswith("lies in 0 folders, but --labels names 2")


def test_every_kind_of_clip(tmp_path):
    folder = tmp_path / "kinds"
    folder.mkdir()
    frames = numbered_frames(5, 20, 20)
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(folder / "a.gif", save_all=True, append_images=images[1:])
    for name, mode in (("rgba frames", "RGBA"), ("grey frames", "L"), ("16 bit", "I;16")):
        (folder / name).mkdir()
        for i, image in enumerate(images, start=8):  # from frame_8 to frame_12: natural order, not that of letters
            grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
            (Image.fromarray(grey) if mode == "I;16" else image.convert(mode)).save(folder / name / f"frame_{i}.png")
    write_video(folder / "wide film.mkv", numbered_frames(5, 32, 128))
    write_video(folder / "tall.MOV", numbered_frames(5, 128, 32), "mjpeg")
    write_video(folder / unicodedata.normalize("NFD", "Zoë läuft – 1.mp4"), numbered_frames(5))
    (folder / ".hidden.mp4").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    _, rows, report = prepare(folder, tmp_path / "set")
    assert len(rows) == 7 and not report["skipped"]
    for row in rows.values():
        assert pixels(row).shape == (5, 16, 16, 3)
        assert [number_of(frame) for frame in pixels(row)] == list(range(5)), row["clip_id"]
    _, rows, _ = prepare(folder, tmp_path / "grey", "--grey")
    assert all(pixels(row).shape == (5, 16, 16, 1) for row in rows.values())


def test_a_rate_makes_varying_frame_rates_constant(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mkv", numbered_frames(6), milliseconds=[0, 40, 80, 1000, 1500, 1900])
    write_video(tmp_path / "videos" / "b.mp4", numbered_frames(50))
    _, rows, _ = prepare(tmp_path / "videos", tmp_path / "set", "--fps=2")
    assert [number_of(frame) for frame in pixels(rows["a.mkv"])] == [0, 2, 3, 4]
    assert [number_of(frame) for frame in pixels(rows["b.mp4"])] == [0, 12, 25, 37]


@pytest.mark.parametrize("flags", [[], ["--fps=5"]], ids=["all frames", "at a rate"])
def test_damaged_files_are_skipped_by_name_and_the_rest_goes_on(tmp_path, flags):
    folder = tmp_path / "videos"
    folder.mkdir()
    whole = {"mp4": write_video(folder / "good.mp4", numbered_frames(20)).read_bytes()}
    Image.new("RGB", (20, 20)).save(
        folder / "good.gif", save_all=True, append_images=[Image.new("RGB", (20, 20), "red")]
    )
    whole["gif"] = (folder / "good.gif").read_bytes()
    for suffix, content in whole.items():
        for kind, damaged in damaged_files(content).items():
            (folder / f"{kind}.{suffix}").write_bytes(damaged)
    (folder / "no frames").mkdir()
    (folder / "no frames" / "1.png").write_bytes(b"")
    _, rows, report = prepare(folder, tmp_path / "set", *flags)
    assert {"good.mp4", "good.gif"} <= set(rows)
    for name in (
        "empty.mp4",
        "cut.mp4",
        "head.mp4",
        "noise.mp4",
        "text.mp4",
        "zeros.mp4",
        "empty.gif",
        "text.gif",
        "no frames",
    ):
        assert name in report["skipped"], name
        assert len(report["skipped"][name]) > 15 and "Traceback" not in report["skipped"][name]


def test_frames_of_different_sizes_and_endless_clips_are_skipped(tmp_path, monkeypatch):
    folder = tmp_path / "videos"
    (folder / "mixed").mkdir(parents=True)
    for i, size in enumerate((20, 30)):
        Image.new("RGB", (size, size)).save(folder / "mixed" / f"{i}.png")
    write_video(folder / "long.mp4", numbered_frames(30))
    write_video(folder / "a.mp4", numbered_frames(10))
    write_video(folder / "b.mp4", numbered_frames(10))
    monkeypatch.setattr(videos, "MAX_FRAMES", 20)
    _, rows, report = prepare(folder, tmp_path / "set")
    assert set(rows) == {"a.mp4", "b.mp4"}
    assert "frames of different sizes" in report["skipped"]["mixed"]
    assert "is longer than 20 frames" in report["skipped"]["long.mp4"]


BAD = {
    "--labels frames": "--labels must be different names, none of them frames",
    "--labels a a": "none of them twice",
    "--test_fraction=1": "--test_fraction must be between 0 and 1",
    "--fps=-1": "--fps must be positive",
}


@pytest.mark.parametrize("flags", BAD)
def test_flags_that_cannot_work_are_refused(flags, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        prepare(tmp_path, tmp_path / "set", *flags.split())
    assert stop.value.code == 2 and BAD[flags] in capsys.readouterr().err


def test_folders_that_cannot_work_are_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="There is no folder nowhere"):
        prepare("nowhere", tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="holds no video, GIF or folder of frame images"):
        prepare(tmp_path / "empty", tmp_path / "set")
    with pytest.raises(SystemExit, match="Not one clip has its labels:\n  ann/run/1.mp4: lies in 2 folders"):
        prepare(folder, tmp_path / "set", "--labels", "identity")
    (folder / "metadata.csv").write_text("path,identity\nx,y\n")
    with pytest.raises(SystemExit, match="has a row without 'file_name'"):
        prepare(folder, tmp_path / "set", "--labels", "identity")
    (folder / "metadata.csv").write_bytes(b"file_name,identity\n\xff\xfe,x\n")
    with pytest.raises(SystemExit, match="metadata.csv cannot be read"):
        prepare(folder, tmp_path / "set", "--labels", "identity")

    def closed(path, onerror):
        onerror(PermissionError(13, "Permission denied", str(path)))

    monkeypatch.setattr(os, "walk", closed)
    with pytest.raises(SystemExit, match="Cannot read the folder .*Permission denied.*change its permissions"):
        prepare(folder, tmp_path / "set")


def test_as_a_command_it_prints_a_summary_and_no_traceback(folder, tmp_path):
    command = [
        sys.executable,
        videos.__file__,
        "--input",
        folder,
        "--output_dir",
        tmp_path / "set",
        "--num_workers",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "8 clips (7 train, 1 test), 60 frames, 0 skipped" in done.stdout
    done = subprocess.run(
        [*command[:3], tmp_path / "nowhere", *command[4:]], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1 and done.stderr.startswith("There is no folder") and "Traceback" not in done.stderr


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_run_that_is_stopped_leaves_no_set_and_goes_on_to_the_same_one(tmp_path, sign):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "0.mp4", numbered_frames(12, 120, 160))
    for number in range(1, 160):  # enough that a busy machine does not finish before it is stopped
        shutil.copy(tmp_path / "videos" / "0.mp4", tmp_path / "videos" / f"{number}.mp4")
    command = [
        sys.executable,
        videos.__file__,
        "--input",
        tmp_path / "videos",
        "--output_dir",
        tmp_path / "set",
    ]
    command += ["--num_workers", "1"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while run.poll() is None and not list(tmp_path.glob(".set.partial-*/000000.json")):
        time.sleep(0.005)
    run.send_signal(sign)
    printed, _ = run.communicate(timeout=100)
    assert not (tmp_path / "set").exists() and "Traceback" not in printed
    if sign == signal.SIGINT:
        assert run.returncode == 1 and "Stopped. What is done is kept in" in printed
    done = len(list(tmp_path.glob(".set.partial-*/*.json")))
    resumed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    assert f"| {16 * done}/160" in resumed.stderr, "what was done was read again"
    videos.main([*map(str, command[2:5]), str(tmp_path / "unbroken"), "--num_workers", "1"])
    one, two = (load_from_disk(tmp_path / name) for name in ("set", "unbroken"))
    for split in ("train", "test"):
        assert one[split].data.table.equals(two[split].data.table)
    assert not list(tmp_path.glob(".set.partial-*"))
