"""
Anybody's folder: labels from folders, from metadata or none; whatever is wrong with a file is said, and the rest goes
on.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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
    assert (len(sets["train"]), len(sets["test"])) == (6, 2)
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


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
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
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    else:
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


SPLIT_LAYOUTS = {
    "train and test": ({"train": "train", "test": "test"}, {"train", "test"}),
    "all three": ({"train": "train", "valid": "validation", "test": "test"}, {"train", "validation", "test"}),
}


@pytest.mark.parametrize(
    ("folders", "counts", "rule"),
    [
        ({"Training": 12, "val": 3}, {"train": 10, "validation": 3, "test": 2}, "; 2 test clips at random"),
        ({"train": 12, "test": 3}, {"train": 10, "validation": 2, "test": 3}, "; 2 of the others for validation"),
        ({"all": 12}, {"train": 8, "validation": 2, "test": 2}, "; 2 of the others for validation"),
    ],
)
def test_what_the_users_split_lacks_is_taken_from_training(tmp_path, folders, counts, rule):
    for folder, count in folders.items():
        (tmp_path / "videos" / folder).mkdir(parents=True)
        for number in range(count):
            write_video(tmp_path / "videos" / folder / f"{number}.mp4", numbered_frames(2))
    sets, _, report = prepare(tmp_path / "videos", tmp_path / "set")
    assert report["clips"] == counts and list(sets) == list(counts) and rule in report["split_rule"]
    for folder, split in {"val": "validation", "test": "test"}.items():
        if folder in folders:
            assert {name.split("/")[0] for name in sets[split]["clip_id"]} == {folder}


@pytest.mark.parametrize("layout", SPLIT_LAYOUTS)
def test_the_users_own_split_and_labels_are_kept(tmp_path, layout):
    """`videofolder`: a metadata file in the folder of each split."""
    folders, names = SPLIT_LAYOUTS[layout]
    for folder in folders:
        (tmp_path / "videos" / folder).mkdir(parents=True)
        lines = ["file_name,identity"]
        for number in (1, 2):
            write_video(tmp_path / "videos" / folder / f"{number}.mp4", numbered_frames(3))
            lines.append(f"{number}.mp4,person {number}")
        (tmp_path / "videos" / folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    write_video(tmp_path / "videos" / "stray.mp4", numbered_frames(3))
    sets, _, report = prepare(tmp_path / "videos", tmp_path / "set", "--labels", "identity")
    assert set(sets) == names and sets["train"].features["identity"].names == ["person 1", "person 2"]
    for folder, split in folders.items():
        assert {f"{folder}/1.mp4", f"{folder}/2.mp4"} == set(sets[split]["clip_id"])
    assert report["split_rule"].startswith("the user's own, by the folders of --input")
    assert report["skipped"]["stray.mp4"].startswith("is in no split")
    with pytest.raises(SystemExit, match="is split already, by the folders of --input.*leave out --test_fraction"):
        prepare(tmp_path / "videos", tmp_path / "other", "--test_fraction=0.5")


def test_labels_from_folders_begin_below_those_of_the_split(tmp_path):
    for folder in ("train/ann", "train/bob", "test/ann"):
        (tmp_path / "videos" / folder).mkdir(parents=True)
        write_video(tmp_path / "videos" / folder / "1.mp4", numbered_frames(3))
    sets, _, _ = prepare(tmp_path / "videos", tmp_path / "set", "--labels", "identity")
    assert sets["train"].features["identity"].names == ["ann", "bob"] and sets["test"]["clip_id"][:] == [
        "test/ann/1.mp4"
    ]


def test_a_split_in_the_metadata_is_kept(folder, tmp_path):
    splits = {"ann/walk/1.mp4": "train", "bob/run/1.mp4": "train", "bob/run/2.mp4": "Test"}
    (folder / "metadata.csv").write_text("file_name,split\n" + "".join(f"{k},{v}\n" for k, v in splits.items()))
    sets, rows, report = prepare(folder, tmp_path / "set")
    assert sets["test"]["clip_id"][:] == ["bob/run/2.mp4"] and len(rows) == 3
    assert report["skipped"]["ann/run/1.mp4"] == "is in no split, as others are by metadata.csv"
    sets, _, _ = prepare(folder, tmp_path / "labelled", "--labels", "identity", "action")
    assert sets["train"].features["action"].names == ["run", "walk"]  # by the folders, for the table has none
    (folder / "metadata.csv").write_text("file_name,split\nann/walk/1.mp4,train\nbob/run/1.mp4,later\n")
    with pytest.raises(SystemExit, match="says of bob/run/1.mp4 the split 'later': it must be train, validation or"):
        prepare(folder, tmp_path / "other")
    (folder / "train").mkdir()
    (folder / "test").mkdir()
    for name in ("train", "test"):
        shutil.copy(folder / "ann" / "walk" / "1.mp4", folder / name / "1.mp4")
    (folder / "metadata.csv").write_text("file_name,split\ntrain/1.mp4,test\n")
    with pytest.raises(SystemExit, match="says of train/1.mp4 the split 'test', but it lies in train"):
        prepare(folder, tmp_path / "other")


def test_rows_that_contradict_each_other_are_refused(folder, tmp_path):
    rows = "file_name,identity\nann/walk/1.mp4,Ann\nann/walk/1.mp4,{}\nbob/run/1.mp4,Bob\n"
    (folder / "metadata.csv").write_text(rows.format("Bob"))
    with pytest.raises(SystemExit, match="metadata.csv says of ann/walk/1.mp4 both identity 'Ann' and 'Bob'"):
        prepare(folder, tmp_path / "set", "--labels", "identity")
    (folder / "metadata.csv").write_text(rows.format("Ann"))
    (folder / "metadata.jsonl").write_text('{"file_name": "bob/run/1.mp4", "identity": "Carl"}\n')
    with pytest.raises(SystemExit, match="metadata.jsonl says of bob/run/1.mp4 both identity 'Bob' and 'Carl'"):
        prepare(folder, tmp_path / "set", "--labels", "identity")
    (folder / "metadata.jsonl").write_text('{"file_name": "bob/run/2.mp4", "identity": "Bob"}\n')
    _, kept, _ = prepare(folder, tmp_path / "set", "--labels", "identity")
    assert set(kept) == {"ann/walk/1.mp4", "bob/run/1.mp4", "bob/run/2.mp4"}


def test_paths_in_metadata_may_be_those_of_another_system(tmp_path):
    videos = tmp_path / "videos"
    said = [
        "ann\\walk\\1.mp4",
        "./bob/1.mp4",
        str(videos / "carl" / "1.mp4"),
        unicodedata.normalize("NFC", "Zoë/1.mp4"),
        "e/../e/1.mp4",
    ]
    real = ["ann/walk/1.mp4", "bob/1.mp4", "carl/1.mp4", unicodedata.normalize("NFD", "Zoë/1.mp4"), "e/1.mp4"]
    for name in real:
        (videos / name).parent.mkdir(parents=True)
        write_video(videos / name, numbered_frames(3))
    lines = [json.dumps({"file_name": name, "identity": f"p{i}"}) for i, name in enumerate(said)]
    (videos / "metadata.jsonl").write_text("\n".join(lines))
    sets, rows, report = prepare(videos, tmp_path / "set", "--labels", "identity")
    assert not report["skipped"]
    assert [sets["train"].features["identity"].int2str(rows[name]["identity"]) for name in real] == [
        f"p{i}" for i in range(5)
    ]


def test_a_table_of_another_kind_is_no_metadata_where_no_labels_are_asked_for(folder, tmp_path):
    (folder / "metadata.csv").write_text("camera,lens\nx,y\n")
    assert len(prepare(folder, tmp_path / "set")[1]) == 8


def test_links_to_folders_are_followed_and_no_folder_is_read_twice(folder, tmp_path):
    (tmp_path / "elsewhere" / "jump").mkdir(parents=True)
    write_video(tmp_path / "elsewhere" / "jump" / "1.mp4", numbered_frames(3))
    (folder / "carl").symlink_to(tmp_path / "elsewhere")
    (folder / "a_copy_of_bob").symlink_to(folder / "bob")
    (folder / "ann" / "round").symlink_to(folder)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    _, rows, report = prepare(folder, tmp_path / "set")
    assert len(rows) == 9 and "carl/jump/1.mp4" in rows
    assert set(report["skipped"]) == {"a_copy_of_bob", "ann/round", "carl/back"}
    assert set(report["skipped"].values()) == {"is a link to a folder that is read elsewhere"}


def test_pictures_that_are_no_frames_do_not_become_clips(folder, tmp_path):
    picture = Image.new("RGB", (64, 48), "red")
    picture.save(folder / "ann" / "walk" / "1.jpg")  # a poster beside its video
    picture.save(folder / "bob" / "cover.png")  # above them
    picture.save(folder / "me.png")
    for clutter in ("ann/walk/@eaDir/1.mp4", "__MACOSX/ann", "#recycle", ".thumbs", "lost+found", "bob/$RECYCLE.BIN"):
        (folder / clutter).mkdir(parents=True)
        picture.save(folder / clutter / "SYNOPHOTO_THUMB_M.jpg")
    (folder / "ann" / "walk" / "._1.mp4").write_bytes(b"x")
    (folder / "ann" / "walk" / "Thumbs.db").write_bytes(b"x")
    (folder / "bob" / "jump").mkdir()
    for number in range(3):
        picture.save(folder / "bob" / "jump" / f"{number}.png")
    _, rows, report = prepare(folder, tmp_path / "set")
    assert len(rows) == 9 and "bob/jump" in rows
    assert set(report["skipped"]) == {"ann/walk", "bob", "."}
    assert report["skipped"]["ann/walk"].startswith("its pictures (1) lie beside videos or clips")
    assert report["skipped"]["."].startswith("the folder itself holds pictures (1)")


def test_animations_are_clips_by_their_content(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    images = [Image.fromarray(frame) for frame in numbered_frames(5, 20, 20)]
    for name in ("a.webp", "b.png", "c.apng"):
        images[0].save(
            folder / name,
            "PNG" if "png" in name else None,
            save_all=True,
            append_images=images[1:],
            lossless=True,
            duration=100,
        )
    _, rows, report = prepare(folder, tmp_path / "set")
    assert set(rows) == {"a.webp", "b.png", "c.apng"} and not report["skipped"]
    assert all([number_of(frame) for frame in pixels(row)] == list(range(5)) for row in rows.values())


@pytest.mark.parametrize("still", ["a.png", "z.png"])
def test_a_still_beside_animations_hides_none_wherever_its_name_sorts(tmp_path, still):
    folder = tmp_path / "videos" / "ann"
    folder.mkdir(parents=True)
    images = [Image.fromarray(frame) for frame in numbered_frames(5, 20, 20)]
    for name in ("run.webp", "walk.png"):
        images[0].save(folder / name, save_all=True, append_images=images[1:], lossless=True, duration=100)
    images[0].save(folder / still)
    _, rows, report = prepare(tmp_path / "videos", tmp_path / "set")
    assert {name: len(row["frames"]) for name, row in rows.items()} == {"ann/run.webp": 5, "ann/walk.png": 5}
    assert report["skipped"]["ann"].startswith("its pictures (1) lie beside videos or clips")


def test_a_link_to_nothing_among_the_frames_is_named_and_the_rest_goes_on(folder, tmp_path):
    (folder / "frames").mkdir()
    Image.new("RGB", (20, 20)).save(folder / "frames" / "0.png")
    (folder / "frames" / "1.png").symlink_to(folder / "nowhere.png")
    _, rows, report = prepare(folder, tmp_path / "set")
    assert len(rows) == 8 and list(report["skipped"]) == ["frames"] and "1.png" in report["skipped"]["frames"]


def test_a_rate_is_applied_by_content_not_by_suffix(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", numbered_frames(20)).rename(folder / "a.gif")
    images = [Image.fromarray(frame) for frame in numbered_frames(5, 20, 20)]
    for name in ("b.gif", "c.gif"):
        images[0].save(folder / name, save_all=True, append_images=images[1:], duration=[400, 100, 100, 100, 100])
    (folder / "c.gif").rename(folder / "c.mp4")
    _, rows, report = prepare(folder, tmp_path / "set", "--fps=5")
    assert not report["skipped"]
    assert [number_of(frame) for frame in pixels(rows["a.gif"])] == [0, 5, 10, 15]
    for name in ("b.gif", "c.mp4"):
        assert [number_of(frame) for frame in pixels(rows[name])] == [0, 0, 1, 3]


def test_frames_of_one_upright_size_may_have_been_taken_either_way(tmp_path):
    folder = tmp_path / "videos" / "clip"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64), "red").save(folder / "0.jpg")
    Image.new("RGB", (64, 48), "red").save(folder / "1.jpg", exif=exif)
    write_video(tmp_path / "videos" / "other.mp4", numbered_frames(2))
    _, rows, report = prepare(tmp_path / "videos", tmp_path / "set")
    assert len(rows["clip"]["frames"]) == 2 and not report["skipped"]


def test_a_home_that_no_shell_resolves(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    videos.main(["--input=~/videos", "--output_dir=~/set", "--num_workers=1", "--size=8"])
    assert (tmp_path / "set" / "preparation.json").is_file()


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
    "--size=0": "argument --size: '0' is not a whole number of at least 1.",
    "--num_workers=-1": "argument --num_workers: '-1' is not a whole number",
    "--seed=nan": "argument --seed: 'nan' is not a whole number",
    "--test_fraction=1": "--test_fraction must be between 0 and 1",
    "--fps=-1": "--fps must be positive",
    "--test_fraction=nan": "--test_fraction must be between 0 and 1",
    "--fps=nan": "--fps must be positive",
    "--fps=inf": "--fps must be positive",
    "--fps=0.001": "--fps must be positive, from 0.01",
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
    (folder / "metadata.csv").rename(folder / "metadata.parquet")
    with pytest.raises(SystemExit, match="metadata.parquet cannot be read"):
        prepare(folder, tmp_path / "set", "--labels", "identity")

    def closed(path, onerror, **_):
        onerror(PermissionError(13, "Permission denied", str(path)))

    monkeypatch.setattr(os, "walk", closed)
    with pytest.raises(SystemExit, match="Cannot read the folder .*Permission denied.*change its permissions"):
        prepare(folder, tmp_path / "set")


def test_as_a_command_it_prints_a_summary_and_no_traceback(folder, tmp_path):
    command = [sys.executable, videos.__file__, "--input", folder, "--output_dir", tmp_path / "set"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "8 clips (6 train, 2 test), 60 frames, 0 skipped" in done.stdout


# A run that stands still in the middle of its second portion, however fast or busy the machine is.
STANDS_STILL = """
import signal, sys, time, videos
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs have it ignored
read_clip, begun = videos.read_clip, []

def stand_still(*args, **options):
    begun.append(args)
    if len(begun) == 20:
        print("begun", flush=True)
        time.sleep(1000)
    return read_clip(*args, **options)

videos.read_clip = stand_still
videos.main(sys.argv[1:])
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_run_that_is_stopped_leaves_no_set_and_goes_on_to_the_same_one(tmp_path, capsys, sign):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "0.mp4", numbered_frames(12))
    for number in range(1, 40):
        shutil.copy(tmp_path / "videos" / "0.mp4", tmp_path / "videos" / f"{number}.mp4")
    words = [f"--input={tmp_path / 'videos'}", f"--output_dir={tmp_path / 'set'}", "--num_workers=1", "--size=16"]
    with subprocess.Popen(
        [sys.executable, "-c", STANDS_STILL, *words],
        cwd=Path(videos.__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            assert run.stdout.readline() == "begun\n"
            run.send_signal(sign)
            _, printed = run.communicate()
        finally:
            run.kill()
    assert not (tmp_path / "set").exists() and "Traceback" not in printed
    if sign == signal.SIGINT:
        assert run.returncode == 1 and "Stopped. What is done is kept in" in printed
    videos.main(words)
    assert "| 16/40" in capsys.readouterr().err, "what was done was read again"
    videos.main([words[0], f"--output_dir={tmp_path / 'unbroken'}", *words[2:]])
    one, two = (load_from_disk(tmp_path / name) for name in ("set", "unbroken"))
    for split in ("train", "validation", "test"):
        assert one[split].data.table.equals(two[split].data.table)
    assert not list(tmp_path.glob(".set.partial-*"))
