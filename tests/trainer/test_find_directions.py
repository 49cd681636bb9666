"""`find_directions.py` stores sliders with a checkpoint, and prints what they are."""

import hashlib

import find_directions
import pytest
import torch
from tiny import tiny_pipeline

from divid_diffusers import DiViDPipeline


FLAGS = ["--dataset", "puppets", "--num_clips", "60", "--num_frames", "3", "--num_directions", "2"]


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(find_directions, "drawn_clips", lambda *arguments: small(*arguments))
    tiny_pipeline().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def small(dataset, count, seed, drawn=find_directions.drawn_clips):
    items, labels = drawn(dataset, count, seed)
    return [item | {"frames": item["frames"][:, :, ::4, ::4]} for item in items], labels


def digests(folder):
    return {path: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.rglob("*.safetensors")}


def test_directions_are_added_to_the_folder_and_nothing_else_is_written_anew(checkpoint, capsys):
    before = digests(checkpoint)
    find_directions.main(["--model", str(checkpoint), *FLAGS])
    after = digests(checkpoint)
    assert {path: after[path] for path in before} == before and len(after) == len(before) + 1
    pipe = DiViDPipeline.from_pretrained(checkpoint)
    assert pipe.directions.names == ["static 1", "static 2", "dynamic 1", "dynamic 2"]
    assert pipe.edit(torch.zeros(1, 2, 3, 16, 16), {"static 1": 1.0}).frames
    printed = capsys.readouterr().out
    assert "| direction | named | variance | action |" in printed and "| dynamic 2 |" in printed


def test_with_output_dir_the_checkpoint_is_saved_there(checkpoint, tmp_path):
    before = digests(checkpoint)
    find_directions.main(["--model", str(checkpoint), *FLAGS, "--output_dir", str(tmp_path / "out")])
    assert digests(checkpoint) == before
    assert DiViDPipeline.from_pretrained(tmp_path / "out").directions.config.num_static == 2


def test_d_is_the_mean_over_time_and_units_are_standard_deviations(checkpoint):
    pipe = DiViDPipeline.from_pretrained(checkpoint)
    items, _ = find_directions.drawn_clips("puppets", 12, 0)
    tokens = find_directions.tokens_of(pipe, items, 3)
    with torch.no_grad():
        clip = pipe.encode(find_directions.evenly_spaced(items[3:4], 3).float() / 255)
    torch.testing.assert_close(torch.from_numpy(tokens["dynamic"][3]), clip.dynamic[0].mean(0), atol=1e-5, rtol=0)
    found = find_directions.find_directions(pipe, tokens, {}, 2)
    along = tokens["static"] @ found.static[0].numpy() / found.static[0].norm().item()
    assert along.std(ddof=1) == pytest.approx(found.static[0].norm().item(), rel=1e-4)


def test_mistakes_are_sentences(checkpoint, tmp_path, capsys):
    with pytest.raises(SystemExit):
        find_directions.main(["--model", "org/name", *FLAGS])
    assert "is no folder to add directions to: give --output_dir" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="model_index.json"):
        find_directions.main(["--model", str(tmp_path), *FLAGS])
