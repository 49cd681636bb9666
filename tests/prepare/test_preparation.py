"""A prepared set holds what its clips are, is whole or not there, and goes on where it was stopped."""

import dataclasses
import functools
import json
import os
import subprocess
import sys

import datasets
import mead
import mhad
import numpy as np
import preparation
import pytest
import torch
from hub_stand_in import HubStandIn
from preparation import Clip, Plan, prepare

from divid_diffusers.data.prepared import PreparedClips, load_clips


LABELS = {"identity": ["ann", "bob"], "action": ["walk", "run", "hop"]}


def frames_of(clip: Clip) -> np.ndarray:
    number = int(clip.clip_id[1:])
    return np.random.default_rng(number).integers(0, 256, (1 + number % 5, 4, 6, 3), dtype=np.uint8)


def read(clip: Clip, bad: tuple = (), stop_at: str | None = None) -> np.ndarray:
    if clip.clip_id == stop_at:
        raise KeyboardInterrupt
    if clip.clip_id in bad:
        raise ValueError(f"{clip.source} is damaged.")
    return frames_of(clip)


def plan(count=40, **options) -> Plan:
    clips = [
        Clip(
            f"c{i}",
            f"dir/c{i}.mp4",
            "test" if i % 4 == 0 else "train",
            {"identity": LABELS["identity"][i % 2], "action": LABELS["action"][i % 3]},
        )
        for i in range(count)
    ]
    return Plan(clips, functools.partial(read, **options), (4, 6, 3), LABELS, "every fourth", "A set.", "CC0", "Us")


def test_a_set_comes_back_as_it_went_in(tmp_path):
    report = prepare(plan(), tmp_path / "set")
    assert report["clips"] == {"train": 30, "test": 10} and report["classes"] == {"identity": 2, "action": 3}
    assert (
        report["training"]
        == "30 clips of 2 people: people who are not among them are reproduced from their first frame at most."
    )
    dataset = datasets.load_from_disk(tmp_path / "set")
    assert "every fourth" in dataset["train"].info.description and dataset["test"].info.license == "CC0"
    seen = set()
    for split, rows in dataset.items():
        clips = PreparedClips(rows)
        assert len(clips) == len(rows)
        for row, clip in zip(rows, clips, strict=True):
            expected = next(each for each in plan().clips if each.clip_id == row["clip_id"])
            seen.add(row["clip_id"])
            assert np.array_equal(np.array(row["frames"], np.uint8), frames_of(expected))
            assert torch.equal(clip["frames"], torch.from_numpy(frames_of(expected)).permute(0, 3, 1, 2))
            assert expected.split == split and row["source"] == expected.source
            assert clip["identity"] == row["identity"] == LABELS["identity"].index(expected.labels["identity"])
            assert rows.features["action"].int2str(row["action"]) == expected.labels["action"]
    assert len(seen) == 40


def test_several_processes_make_the_same_set(tmp_path):
    prepare(plan(), tmp_path / "one")
    prepare(plan(), tmp_path / "two", num_workers=2)
    one, two = (datasets.load_from_disk(tmp_path / name) for name in ("one", "two"))
    for split in ("train", "test"):
        assert one[split].data.table.equals(two[split].data.table)


def test_a_bad_clip_is_skipped_and_named(tmp_path, capsys):
    report = prepare(plan(bad=("c5", "c8")), tmp_path / "set")
    assert report["clips"] == {"train": 29, "test": 9}
    assert report["skipped"] == {"c5": "dir/c5.mp4 is damaged.", "c8": "dir/c8.mp4 is damaged."}
    assert "c5: dir/c5.mp4 is damaged." in capsys.readouterr().out


def test_a_stopped_run_leaves_no_set_and_goes_on(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="Stopped. What is done is kept"):
        prepare(plan(stop_at="c20"), tmp_path / "set")
    assert not (tmp_path / "set").exists()

    reads = []
    work = next(path for path in tmp_path.iterdir())
    finished = plan()
    monkeypatch.setattr(Plan, "fingerprint", lambda self: work.name.rpartition("-")[2] + "0" * 52)
    monkeypatch.setattr(
        "test_preparation.frames_of", lambda clip: reads.append(clip.clip_id) or np.zeros((1, 4, 6, 3), np.uint8)
    )
    prepare(finished, tmp_path / "set")
    assert reads == [f"c{i}" for i in range(16, 40)]
    assert not work.exists() and len(load_clips(str(tmp_path / "set"), "train")) == 30


def test_a_mended_file_is_read_when_the_run_goes_on(tmp_path):
    broken, mended = plan(bad=("c1",)), plan()
    object.__setattr__(mended, "fingerprint", broken.fingerprint)
    work = tmp_path / "work"
    work.mkdir()
    preparation.read_portions(broken, [broken.clips[:16]], work, 1)
    assert json.loads(preparation.portion_report(work, 0).read_text())["skipped"]
    preparation.read_portions(mended, [mended.clips[:16]], work, 1)
    assert not json.loads(preparation.portion_report(work, 0).read_text())["skipped"]


def test_a_full_disk_is_reported_and_leaves_no_set(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SystemExit, match="No space left on device.*the same command goes on"):
        prepare(plan(), tmp_path / "set")
    assert not (tmp_path / "set").exists()
    monkeypatch.undo()
    assert prepare(plan(), tmp_path / "set")["clips"]["train"] == 30


def test_a_prepared_set_is_not_prepared_again_nor_overwritten(tmp_path, capsys):
    first = prepare(plan(), tmp_path / "set")
    assert prepare(plan(), tmp_path / "set") == first and "already prepared" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="already holds another set"):
        prepare(plan(count=12), tmp_path / "set")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(SystemExit, match="is not an empty folder"):
        prepare(plan(), tmp_path / "other")


def test_nothing_to_prepare_is_said(tmp_path):
    with pytest.raises(SystemExit, match="not a single clip"):
        prepare(plan(count=0), tmp_path / "set")
    with pytest.raises(SystemExit, match="None of the 3 clips could be read:\n  c0: dir/c0.mp4 is damaged."):
        prepare(plan(count=3, bad=("c0", "c1", "c2")), tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_two_clips_of_one_name_are_refused(tmp_path):
    double = plan(count=4)
    again = dataclasses.replace(double.clips[0], source="other/c0.mp4")
    object.__setattr__(double, "clips", [*double.clips, again])
    with pytest.raises(SystemExit, match="Two clips have the id 'c0': dir/c0.mp4 and other/c0.mp4. Rename one"):
        prepare(double, tmp_path / "set")


def test_a_set_streams_and_survives_parquet(tmp_path):
    prepare(plan(), tmp_path / "set")
    whole = datasets.load_from_disk(tmp_path / "set")["test"]
    files = {"test": str(tmp_path / "set" / "test" / "*.arrow")}
    streamed = datasets.load_dataset("arrow", data_files=files, split="test", streaming=True)
    assert [row["clip_id"] for row in streamed] == whole["clip_id"][:]
    whole.to_parquet(tmp_path / "test.parquet")
    back = datasets.Dataset.from_parquet(str(tmp_path / "test.parquet"), cache_dir=str(tmp_path / "cache"))
    assert back.features == whole.features
    assert torch.equal(PreparedClips(back)[3]["frames"], PreparedClips(whole)[3]["frames"])


ON_THE_HUB = """
import sys, datasets
from divid_diffusers.data.prepared import load_clips
datasets.load_from_disk(sys.argv[1]).push_to_hub("org/clips")
clips = load_clips("org/clips", "train")
streamed = datasets.load_dataset("org/clips", split="test", streaming=True)
print("pushed", len(clips), clips.shape, clips.labels["identity"], sorted(row["clip_id"] for row in streamed))
"""


def test_a_set_is_pushed_to_the_hub_loaded_by_name_and_streamed(tmp_path):
    prepare(plan(), tmp_path / "set")
    with HubStandIn() as hub:
        words = [sys.executable, "-c", ON_THE_HUB, str(tmp_path / "set")]
        environment = os.environ | hub.environment(tmp_path / "cache")
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
    held_out = sorted(clip.clip_id for clip in plan().clips if clip.split == "test")
    assert f"pushed 30 (4, 6, 3) ['ann', 'bob'] {held_out}" in done.stdout, done.stderr[-3000:]


def test_selected_and_concatenated_rows_are_read_right(tmp_path):
    prepare(plan(), tmp_path / "set")
    whole = datasets.load_from_disk(tmp_path / "set")["train"]
    shuffled = datasets.concatenate_datasets([whole.select([5, 2]), whole.select(range(7, 9))])
    by_id = {clip["clip_id"]: clip["frames"] for clip in PreparedClips(whole)}
    for clip in PreparedClips(shuffled):
        assert torch.equal(clip["frames"], by_id[clip["clip_id"]])


def test_another_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no column `frames`"):
        PreparedClips(datasets.Dataset.from_dict({"text": ["a"]}))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="is not a prepared set: make one"):
        load_clips(str(tmp_path / "folder"), "train")
    prepare(plan(), tmp_path / "set")
    with pytest.raises(ValueError, match="has no split 'validation', only train and test: prepare it anew"):
        load_clips(str(tmp_path / "set"), "validation")


def die(clip: Clip) -> np.ndarray:
    os._exit(1)  # as a decoder that crashes, or the kernel when memory runs out


def test_a_worker_that_dies_is_reported_in_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match="A worker process died: there was not enough memory, or a file crashed"):
        prepare(dataclasses.replace(plan(), read=die), tmp_path / "set", num_workers=2)
    assert not (tmp_path / "set").exists()


def test_a_folder_that_cannot_be_read_ends_a_script_in_a_sentence(tmp_path, closed_folders):
    (tmp_path / "M003" / "video" / "front").mkdir(parents=True)
    with pytest.raises(SystemExit, match="Cannot read the folder .*front"):
        mead.find_strays(tmp_path, "M003", "front", [])
    with pytest.raises(SystemExit, match="Cannot read the folder .*M003"):
        mhad.list_recordings(tmp_path / "M003")
