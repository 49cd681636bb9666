"""A training checkpoint is whole or absent."""

import resource
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from trainer import checkpoints


@pytest.fixture
def accelerator():
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(100, 200)
    accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    yield accelerator
    accelerator.free_memory()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_are_kept_by_number_and_not_by_name(accelerator, tmp_path):
    for step in (8, 9, 10, 11):
        checkpoints.save_checkpoint(accelerator, tmp_path, step, total_limit=2)
    assert [path.name for path in checkpoints.complete_checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-11"]
    assert checkpoints.find_checkpoint("latest", tmp_path).name == "checkpoint-11"


def test_all_are_kept_without_a_limit(accelerator, tmp_path):
    for step in (1, 2, 3):
        checkpoints.save_checkpoint(accelerator, tmp_path, step, total_limit=None)
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]


def test_one_that_was_cut_off_is_not_seen_and_is_written_again(accelerator, tmp_path):
    partial = tmp_path / ".partial-checkpoint-5"
    partial.mkdir()
    (partial / "rubbish").write_text("half")
    assert checkpoints.find_checkpoint("latest", tmp_path) is None
    checkpoints.save_checkpoint(accelerator, tmp_path, 5, total_limit=2)
    assert names(tmp_path) == ["checkpoint-5"]
    assert "rubbish" not in names(tmp_path / "checkpoint-5")


def test_one_is_found_by_its_path_or_by_its_name(accelerator, tmp_path):
    checkpoints.save_checkpoint(accelerator, tmp_path, 5, total_limit=2)
    expected = tmp_path / "checkpoint-5"
    assert checkpoints.find_checkpoint(str(expected), Path("elsewhere")) == expected
    assert checkpoints.find_checkpoint("checkpoint-5", tmp_path) == expected


@pytest.mark.parametrize("asked", ["checkpoint-6", "nowhere", "."])
def test_one_that_is_not_there_is_refused(tmp_path, asked):
    with pytest.raises(SystemExit, match=f"There is no checkpoint at {asked}"):
        checkpoints.find_checkpoint(asked, tmp_path)


def test_a_full_disk_stops_with_a_sentence_and_the_last_checkpoint_whole(accelerator, tmp_path):
    checkpoints.save_checkpoint(accelerator, tmp_path, 1, total_limit=1)
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoint-1").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(SystemExit, match="Checkpoint 2 could not be written .* earlier checkpoints are untouched"):
            checkpoints.save_checkpoint(accelerator, tmp_path, 2, total_limit=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoints.find_checkpoint("latest", tmp_path).name == "checkpoint-1"
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoint-1").iterdir()} == before


def test_the_one_just_written_is_never_the_one_that_is_deleted(accelerator, tmp_path):
    for step in (4, 6, 3):
        checkpoints.save_checkpoint(accelerator, tmp_path, step, total_limit=1)
    assert names(tmp_path) == ["checkpoint-3"]


def test_one_that_is_replaced_stays_until_the_new_one_has_its_name(accelerator, tmp_path, monkeypatch):
    checkpoints.save_checkpoint(accelerator, tmp_path, 5, total_limit=2, about={"clips": "old"})
    rename = Path.rename

    def killed(self, target):
        if self.name.startswith(".partial"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save_checkpoint(accelerator, tmp_path, 5, total_limit=2)
    found = checkpoints.find_checkpoint("latest", tmp_path)
    assert checkpoints.step_of(found) == 5 and '"old"' in (found / "flags.json").read_text()
    monkeypatch.undo()
    checkpoints.save_checkpoint(accelerator, tmp_path, 5, total_limit=2)
    assert '"old"' not in (tmp_path / "checkpoint-5/flags.json").read_text()


@pytest.mark.parametrize("spoil", ["cut", "flipped", "gone", "manifest"])
def test_a_damaged_one_is_refused_and_an_older_whole_one_named(accelerator, tmp_path, spoil):
    for step in (1, 2, 3):
        checkpoints.save_checkpoint(accelerator, tmp_path, step, total_limit=None)
    (tmp_path / "checkpoint-2/optimizer.bin").unlink()
    file = tmp_path / "checkpoint-3/model.safetensors"
    content = file.read_bytes()
    if spoil == "cut":
        file.write_bytes(content[:-10])
    elif spoil == "flipped":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif spoil == "gone":
        file.unlink()
    else:
        (tmp_path / "checkpoint-3/flags.json").write_text('{"fil')
    with pytest.raises(SystemExit, match="checkpoint-3 is damaged .*--resume_from_checkpoint .*checkpoint-1"):
        checkpoints.refuse_damaged(checkpoints.find_checkpoint("latest", tmp_path), tmp_path)
    checkpoints.refuse_damaged(tmp_path / "checkpoint-1", tmp_path)
