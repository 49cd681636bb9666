"""A small autoencoder learns what it is shown, says how well on held-out frames, and is one that DiViD takes."""

import json

import numpy as np
import preparation
import pytest
import torch
import train_vae
from diffusers import AutoencoderTiny
from trainer.on_latents import load_vae


def draw(clip):
    """A plain colour of its own in every clip."""
    colour = np.random.default_rng(int(clip.clip_id[1:])).integers(256, size=3)
    return np.broadcast_to(colour.astype(np.uint8), (3, 40, 40, 3)).copy()


@pytest.fixture
def colours(tmp_path):
    splits = ["test", "validation", *["train"] * 8]
    clips = [preparation.Clip(f"c{i}", "drawn", split, {"identity": "ann"}) for i, split in enumerate(splits)]
    plan = preparation.Plan(clips, draw, (40, 40, 3), {"identity": ["ann"]}, "the first")
    preparation.prepare(plan, tmp_path / "colours")
    return tmp_path / "colours"


def run(*flags):
    train_vae.main(["--size=64", "--width=8", "--num_clips=8", "--max_train_steps=2", *map(str, flags)])


def test_it_learns_and_is_loaded_as_any_autoencoder(colours, tmp_path, capsys):
    flags = ("--dataset", colours, "puppets", "--learning_rate=0.01", "--train_batch_size=4")
    run(*flags, "--output_dir", tmp_path / "start", "--max_train_steps=1")
    run(*flags, "--output_dir", tmp_path / "vae", "--max_train_steps=150")
    start, report = (json.loads((tmp_path / name / "training.json").read_text()) for name in ("start", "vae"))
    for name, least in (("colours", 8), ("puppets", 4)):
        assert report["validation_psnr"][name] > start["validation_psnr"][name] + least
    assert report["validation_frames"] == {"colours": 3, "puppets": 200} and report["steps"] == 150
    printed = capsys.readouterr().out
    assert f"{report['validation_psnr']['colours']:.1f} dB on 3 of colours, " in printed
    assert "latents 4 times smaller" in printed
    vae = load_vae(str(tmp_path / "vae"))
    assert type(vae) is AutoencoderTiny and vae.config.latent_channels == len(report["latents_std"]) == 4
    assert vae.encode(torch.zeros(1, 3, 64, 64)).latents.shape == (1, 4, 16, 16)
    assert str(tmp_path) not in (tmp_path / "vae/training.json").read_text()


def test_minutes_end_it(tmp_path):
    words = ["--dataset=puppets", "--size=64", "--width=8", "--num_clips=8", "--max_train_minutes=0.02"]
    train_vae.main([*words, f"--output_dir={tmp_path / 'vae'}"])
    assert 1 <= json.loads((tmp_path / "vae/training.json").read_text())["steps"] < 1000


def test_the_same_seed_gives_the_same_autoencoder(tmp_path):
    for name in ("one", "two"):
        run("--dataset=puppets", "--output_dir", tmp_path / name)
    one, two = (load_vae(str(tmp_path / name)) for name in ("one", "two"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_what_cannot_be_trained_is_a_sentence_before_the_work(colours, tmp_path, capsys):
    with pytest.raises(SystemExit, match="--dataset: .* is not a prepared set"):
        run("--dataset", tmp_path, "--output_dir", tmp_path / "vae")
    with pytest.raises(SystemExit, match="--size is 68, and latents are 8 times smaller: give a multiple of 8"):
        run("--dataset", colours, "--output_dir", tmp_path / "vae", "--size=68", "--factor=8")
    with pytest.raises(SystemExit):
        run("--dataset", colours, "--output_dir", tmp_path / "vae", "--max_train_minutes=0")
    assert "--max_train_minutes is 0.0: it must be above 0" in capsys.readouterr().err
    run("--dataset", colours, "--output_dir", tmp_path / "vae")
    with pytest.raises(SystemExit, match="holds a model already"):
        run("--dataset", colours, "--output_dir", tmp_path / "vae")


def test_what_is_not_finite_is_not_saved(tmp_path):
    with pytest.raises(SystemExit, match="is not finite.*: lower --learning_rate"):
        run("--dataset=puppets", "--output_dir", tmp_path / "vae", "--learning_rate=1e30", "--max_train_steps=5")
    assert not (tmp_path / "vae/config.json").exists()
